package snapshots

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/images/convert"
	"github.com/qnet-vm/qnet/internal/jail"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/states"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// Off is a VM that does not run, whose directory the caller holds. A snapshot of it has no
// memory.
type Off struct {
	VM     string
	Config machine.Config // its disks are open
	Search string         // the value of PATH
	User   *asuser.User
}

// Limits of qemu-img, which copies tables of a disk and no data.
const (
	imgMemory = 2 << 30
	imgTime   = 10 * time.Minute
	maxInfo   = 1 << 20 // bytes of what it tells of an image
)

// disks returns the images that hold a snapshot.
func (o Off) disks() (list []*os.File, err error) {
	indices, err := written(o.Config)
	for _, i := range indices {
		f := o.Config.Disks[i].File
		if err := imagelock.Check(f, true); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, err
}

// List returns the snapshots of the first disk, the oldest first.
func (o Off) List(ctx context.Context) ([]Snapshot, error) {
	disks, err := o.disks()
	if err != nil {
		return nil, err
	}
	return o.of(ctx, disks[0])
}

// Take makes a snapshot in all disks, or in none.
func (o Off) Take(ctx context.Context, tag string) error {
	disks, err := o.disks()
	if err != nil {
		return err
	}
	for _, f := range disks {
		list, err := o.of(ctx, f)
		if err == nil {
			err = mayTake(list, tag)
		}
		if err != nil {
			return err
		}
	}
	for i, f := range disks {
		if err := o.change(ctx, f, "-c", tag); err != nil {
			errs := []error{fmt.Errorf("snapshot %q: %w", tag, err)}
			for _, done := range disks[:i] {
				errs = append(errs, o.change(ctx, done, "-d", tag))
			}
			return errors.Join(errs...)
		}
	}
	return nil
}

// Restore puts all disks back, and returns the snapshot that they are at then.
func (o Off) Restore(ctx context.Context, tag string) (s Snapshot, err error) {
	disks, err := o.disks()
	if err != nil {
		return s, err
	}
	for i, f := range disks {
		list, err := o.of(ctx, f)
		if err != nil {
			return s, err
		}
		found, err := find(list, tag)
		if err != nil && i > 0 {
			err = fmt.Errorf("disk %q: %w", f.Name(), err) // it came later than the snapshot
		}
		if err != nil {
			return s, err
		}
		if i == 0 {
			s = found
		}
	}
	for i, f := range disks {
		if err := o.change(ctx, f, "-a", tag); err != nil {
			err = fmt.Errorf("snapshot %q: %w", tag, err)
			if i > 0 {
				err = fmt.Errorf("%w; disk %q is at the snapshot now, and this one is not: restore it once more before the VM is started", err, disks[0].Name())
			}
			return s, err
		}
	}
	return s, nil
}

// Remove removes a snapshot from all disks that have it.
func (o Off) Remove(ctx context.Context, tag string) error {
	disks, err := o.disks()
	if err != nil {
		return err
	}
	removed := false
	for _, f := range disks {
		list, err := o.of(ctx, f)
		if err != nil {
			return err
		}
		if _, none := find(list, tag); none != nil {
			continue
		}
		if err := o.change(ctx, f, "-d", tag); err != nil {
			return fmt.Errorf("snapshot %q: %w", tag, err)
		}
		removed = true
	}
	if !removed {
		return fmt.Errorf("snapshot %q: %w", tag, ErrNone)
	}
	return nil
}

// of returns the snapshots of a disk.
func (o Off) of(ctx context.Context, f *os.File) ([]Snapshot, error) {
	out := &bounded{}
	if err := o.run(ctx, f, out, "info", "--output=json"); err != nil {
		return nil, err
	}
	var info struct {
		Snapshots []states.Snapshot `json:"snapshots"`
	}
	if err := json.Unmarshal(out.Bytes(), &info); err != nil {
		return nil, fmt.Errorf("read what qemu-img tells of disk %q: %w", f.Name(), err)
	}
	return listed(info.Snapshots), nil
}

// change makes (-c), restores (-a) or removes (-d) a snapshot of a disk. It does not end with
// ctx, and its qemu-img goes on where this process is killed. See changeWithin.
func (o Off) change(ctx context.Context, f *os.File, what, tag string) error {
	return o.changeWithin(context.WithoutCancel(ctx), f, what, tag)
}

// changeWithin is change that ends with ctx. A qemu-img that is killed may leave clusters that
// are counted less often than they are used (refcounts of QEMU's docs/interop/qcow2.txt): what
// the guest wrote to one of its disk would change a snapshot. So after a failure the counts are
// made right.
func (o Off) changeWithin(ctx context.Context, f *os.File, what, tag string) error {
	err := o.run(ctx, f, &bounded{}, "snapshot", "-q", what, tag)
	if err != nil {
		err = errors.Join(err, o.run(context.WithoutCancel(ctx), f, &bounded{}, "check", "-q", "-r", "all"))
	}
	return err
}

// run has qemu-img do something with a disk, as a qcow2 image whatever its header shows.
// qemu-img reaches nothing else.
func (o Off) run(ctx context.Context, f *os.File, out *bounded, args ...string) error {
	path, err := convert.Find(o.Search, "keeps snapshots of VMs that are off")
	if err != nil {
		return err
	}
	words := &tail.Writer{}
	c := jail.Command{
		Path: path, Args: append(args, "--image-opts", "driver=qcow2,file.driver=file,file.filename="+jail.FD(0)),
		Write: []*os.File{f}, Outlives: true, Limits: jail.Limits{Memory: imgMemory, CPU: imgTime}, Stdout: out, Stderr: words,
	}
	switch as := vmuser.Credential(nil, o.VM); {
	case o.User != nil:
		c.Credential = &syscall.Credential{Uid: o.User.UID, Gid: o.User.GID, Groups: o.User.Groups}
	case as != nil: // root's disks are closed to others
		c.Credential, c.AnyOwner = &syscall.Credential{Uid: as.UID, Gid: as.GID}, true
	}
	if err = jail.Run(ctx, c); err == nil || ctx.Err() != nil {
		return err
	}
	said := strings.ReplaceAll(words.String(), jail.FD(0), "the disk")
	return fmt.Errorf("qemu-img %s of disk %q: %w%s", args[0], f.Name(), err, tail.Suffix(said))
}

// bounded keeps what a program prints, as long as that is no more than maxInfo bytes.
type bounded struct{ bytes.Buffer }

// Write fails for more.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxInfo {
		return 0, errors.New("it prints too much")
	}
	return b.Buffer.Write(p)
}
