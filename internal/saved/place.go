package saved

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

// The names of the directories and files, see the package's comment.
const (
	whole = "memory"
	begun = "memory.new"
	spent = "memory.used"

	stateFile  = "state"
	recordFile = "record.json"
)

// version is that of the record. Another one is no state that this qnet goes on from.
const version = 1

// Record says what a state belongs to.
type Record struct {
	Version int       `json:"version"`
	Saved   time.Time `json:"saved"`
	Profile string    `json:"profile"`           // absolute path
	Allowed []string  `json:"allowed,omitempty"` // folders that the profile may name besides its own
	Extra   []string  `json:"extra,omitempty"`   // further QEMU arguments of the run
	Bytes   int64     `json:"bytes"`             // of the state
	Machine Machine   `json:"machine"`
	Disks   []Disk    `json:"disks"`
}

// Place is where the state of a VM is kept. Its methods have the rights of the user, nil for
// the process's own.
type Place struct {
	Dir  vmdir.Dir
	User *asuser.User
}

// Load returns the record of a VM that is saved; ok is false for one that is not, and where
// the user may not even look: he has saved none there.
func (p Place) Load() (r Record, ok bool, err error) {
	var b []byte
	err = p.User.Do(func() (err error) {
		path := p.Dir.File(filepath.Join(whole, recordFile))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrPermission) {
			return fs.ErrNotExist
		}
		b, err = os.ReadFile(path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.Version != version {
		err = fmt.Errorf("its version is %d, and this qnet knows %d", r.Version, version)
	}
	if err != nil {
		return r, true, p.unusable(fmt.Errorf("read what was saved: %w", err))
	}
	return r, true, nil
}

// Check returns an *Unusable if the guest cannot go on with these images as they are now.
func (p Place) Check(r Record, images []*os.File) error {
	now, err := disksOf(images)
	if err != nil {
		return err
	}
	if why := changed(r.Disks, now); why != "" {
		return p.unusable(errors.New(why))
	}
	return nil
}

// Open opens the state for QEMU.
func (p Place) Open(r Record) (f *os.File, err error) {
	err = p.User.Do(func() (err error) {
		if f, err = os.OpenFile(p.Dir.File(filepath.Join(whole, stateFile)), os.O_RDONLY|unix.O_NOFOLLOW, 0); err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && info.Size() != r.Bytes {
			err = fmt.Errorf("its memory has %d bytes, and had %d", info.Size(), r.Bytes)
		}
		if err != nil {
			f.Close()
		}
		return err
	})
	if err != nil {
		return nil, p.unusable(err)
	}
	return f, nil
}

// Save has write fill the state's file, and keeps it with the record, to which it adds time,
// size and disks. With an error the VM has no state.
func (p Place) Save(ctx context.Context, r Record, images []*os.File, write func(context.Context, *os.File) error) (Record, error) {
	if err := p.Dir.MakeFor(p.User); err != nil {
		return r, err
	}
	err := p.User.Do(func() (err error) {
		if err := p.forget(begun); err != nil {
			return err
		}
		if err = os.Mkdir(p.Dir.File(begun), 0o700); err == nil {
			r, err = p.fill(ctx, r, images, write)
		}
		if err == nil {
			err = failpoint.Hit("saved is about to keep")
		}
		if err == nil {
			err = errors.Join(p.forget(whole), os.Rename(p.Dir.File(begun), p.Dir.File(whole)))
		}
		if err != nil {
			return errors.Join(err, p.forget(begun))
		}
		return errors.Join(atomicfile.SyncDir(p.Dir.Path()), failpoint.Hit("saved did keep"))
	})
	return r, err
}

// fill writes both files, and has them on the disk before it returns.
func (p Place) fill(ctx context.Context, r Record, images []*os.File, write func(context.Context, *os.File) error) (_ Record, err error) {
	f, err := os.OpenFile(p.Dir.File(filepath.Join(begun, stateFile)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(ctx, f); err != nil {
		return r, err
	}
	if err := errors.Join(failpoint.Hit("saved did write"), f.Sync()); err != nil {
		return r, err
	}
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	r.Version, r.Saved, r.Bytes = version, time.Now().UTC().Truncate(time.Second), info.Size()
	if r.Disks, err = disksOf(images); err != nil { // QEMU has given them up: they are as they stay
		return r, err
	}
	return r, p.record(r)
}

func (p Place) record(r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.Dir.File(filepath.Join(begun, recordFile)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Sync(), f.Close(), atomicfile.SyncDir(p.Dir.File(begun)))
}

// Spend takes the state away for a guest that is about to go on from it.
func (p Place) Spend() error {
	return p.User.Do(func() error {
		return errors.Join(p.forget(spent), os.Rename(p.Dir.File(whole), p.Dir.File(spent)), atomicfile.SyncDir(p.Dir.Path()))
	})
}

// Unspend gives the state back: the guest did not go on.
func (p Place) Unspend() error {
	return p.User.Do(func() error { return os.Rename(p.Dir.File(spent), p.Dir.File(whole)) })
}

// Clean removes what is no state: what a process that was killed had begun or spent.
func (p Place) Clean() error {
	return p.User.Do(func() error { return errors.Join(p.forget(begun), p.forget(spent)) })
}

// Discard removes the state, too.
func (p Place) Discard() error {
	return errors.Join(p.User.Do(func() error { return p.forget(whole) }), p.Clean())
}

// forget removes a directory and what is in it. It follows no symbolic link.
func (p Place) forget(name string) error {
	if _, err := os.Lstat(p.Dir.Path()); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // also where the user may not look: see Load
	}
	root, err := os.OpenRoot(p.Dir.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(name), root.Close())
}

// Unusable tells that a VM is saved and cannot go on from that.
type Unusable struct {
	VM  string
	Err error
}

func (p Place) unusable(err error) error { return &Unusable{VM: p.Dir.Name(), Err: err} }

// Error names the VM and the cause.
func (e *Unusable) Error() string {
	return fmt.Sprintf("VM %q cannot go on from where it was suspended: %v", e.VM, e.Err)
}

// Unwrap returns the cause.
func (e *Unusable) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *Unusable) Hint() string {
	return fmt.Sprintf("put that back as it was, or boot it anew: qnet resume --discard %s; what it had in memory only is lost then, as by a power cut", e.VM)
}
