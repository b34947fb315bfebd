// Package snapshots keeps moments of a VM within its disks, and puts the VM back: of a running
// guest its memory and its disks, by its QEMU (VM); of a VM that is off its disks, by qemu-img
// (Off). Beside the tags that the disks have, it keeps in the VM's directory to which machine
// each moment of a guest belongs, in snapshots.json: the same VM may have another one by the
// time that it is restored.
package snapshots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/states"
)

// TagPattern is what tags look like. QEMU takes others, but one of digits only could be a
// snapshot's number.
const TagPattern = `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$ with a letter`

var (
	tag    = pattern.Of(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
	letter = pattern.Of(`[a-zA-Z]`)
)

// ValidTag reports whether a snapshot may be called so.
func ValidTag(s string) bool { return tag().MatchString(s) && letter().MatchString(s) }

// Args are the arguments of the operations on snapshots.
type Args struct {
	Tag string `json:"tag,omitempty"`
}

// Snapshot is one that a VM has.
type Snapshot struct {
	Tag    string    `json:"tag"`
	Made   time.Time `json:"made"`
	Memory int64     `json:"memory"` // bytes
}

// Errors that callers test for.
var (
	// ErrNone is wrapped by the error for a tag that the VM does not have.
	ErrNone = errors.New("the VM has no such snapshot")
	// ErrExists is wrapped by the error for a tag that it has already.
	ErrExists = errors.New("the VM has a snapshot of that name; remove that first, or choose another")
)

// VM is a running VM.
type VM struct {
	Monitor states.Monitor
	Config  machine.Config
	QEMU    string    // its version
	Dir     vmdir.Dir // where snapshots.json is
	User    *asuser.User
}

// disks returns the images that hold a snapshot, by QEMU's names.
func (v VM) disks() (states.Disks, error) {
	var list states.Disks
	indices, err := written(v.Config)
	for _, i := range indices {
		list = append(list, machine.ImageNode(i))
	}
	return list, err
}

// written returns which disks of a machine hold a snapshot: all that the guest writes to.
func written(c machine.Config) (list []int, err error) {
	for i, d := range c.Disks {
		switch {
		case d.ReadOnly:
			continue
		case d.Snapshot:
			return nil, fmt.Errorf("what the guest writes to disk %q is thrown away at the end of the run (snapshot = true), and a snapshot with it", d.File.Name())
		case d.Format != "qcow2":
			return nil, fmt.Errorf(`disk %q is of format %s, which holds no snapshots; convert it with: qemu-img convert -O qcow2`, d.File.Name(), d.Format)
		}
		list = append(list, i)
	}
	if len(list) == 0 {
		return nil, states.ErrNoDisk
	}
	return list, nil
}

// List returns the snapshots, the oldest first.
func (v VM) List(ctx context.Context) ([]Snapshot, error) {
	disks, err := v.disks()
	if err != nil {
		return nil, err
	}
	found, err := states.Snapshots(ctx, v.Monitor, disks)
	return listed(found), err
}

// listed returns what a disk has, the oldest first.
func listed(found []states.Snapshot) []Snapshot {
	list := []Snapshot{}
	for _, f := range found {
		list = append(list, Snapshot{Tag: f.Tag, Made: time.Unix(f.Made, 0).UTC(), Memory: f.Memory})
	}
	order.By(list, func(a, b Snapshot) int { return a.Made.Compare(b.Made) })
	return list
}

// find returns the snapshot with the tag. The error wraps ErrNone if there is none.
func find(list []Snapshot, tag string) (Snapshot, error) {
	i := slices.IndexFunc(list, func(s Snapshot) bool { return s.Tag == tag })
	if i < 0 {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", tag, ErrNone)
	}
	return list[i], nil
}

// mayTake refuses a tag for a new snapshot beside those that there are.
func mayTake(list []Snapshot, tag string) error {
	if !ValidTag(tag) {
		return fmt.Errorf("snapshot %.80q: allowed: %s", tag, TagPattern)
	}
	if _, err := find(list, tag); err == nil {
		return fmt.Errorf("snapshot %q: %w", tag, ErrExists)
	}
	return nil
}

// find returns the VM's snapshot with the tag.
func (v VM) find(ctx context.Context, tag string) (Snapshot, error) {
	list, err := v.List(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	return find(list, tag)
}

// Take makes a snapshot. The guest stands still meanwhile.
func (v VM) Take(ctx context.Context, tag string) error {
	if len(v.Config.Shares) > 0 {
		return fmt.Errorf("snapshot %.80q: the VM shares folders with the host, and what its guest and virtiofsd agreed on about open files cannot be kept", tag)
	}
	list, err := v.List(ctx)
	if err == nil {
		err = mayTake(list, tag)
	}
	if err != nil {
		return err
	}
	m, err := saved.Of(ctx, v.Monitor, v.QEMU, v.Config)
	if err != nil {
		return err
	}
	// The machine first: a snapshot that is not known to have one is restored unchecked.
	if err := v.note(func(all map[string]saved.Machine) { all[tag] = m }); err != nil {
		return err
	}
	disks, _ := v.disks()
	if err := states.TakeSnapshot(ctx, v.Monitor, tag, disks); err != nil {
		return errors.Join(fmt.Errorf("snapshot %q: %w", tag, err), v.forget(tag))
	}
	return nil
}

// Restore puts the guest, which stands still, and its disks back. After an error that wraps
// ErrTorn it is not to go on.
func (v VM) Restore(ctx context.Context, tag string) error {
	found, err := v.find(ctx, tag)
	if err != nil {
		return err
	}
	if found.Memory == 0 {
		return fmt.Errorf("snapshot %q is of the VM while it was off, and has no memory that its guest could go on from; stop the VM, restore the snapshot, and start the VM again", tag)
	}
	all, err := v.machines()
	if err != nil {
		return err
	}
	if m, known := all[tag]; known {
		c := v.Config
		c.Machine = m.Type
		why, err := m.Differs(c)
		if err == nil && why != "" {
			err = fmt.Errorf("snapshot %q is of another machine: %s", tag, why)
		}
		if err != nil {
			return err
		}
	}
	disks, _ := v.disks()
	if err := states.RestoreSnapshot(ctx, v.Monitor, tag, disks); err != nil {
		return fmt.Errorf("snapshot %q: %w: %w", tag, ErrTorn, err)
	}
	return nil
}

// ErrTorn is wrapped by the error for a guest whose disks may be of another time than its
// memory.
var ErrTorn = errors.New("its guest cannot go on; stop it with --force and start it again: it boots from its disks")

// Remove removes a snapshot.
func (v VM) Remove(ctx context.Context, tag string) error {
	if _, err := v.find(ctx, tag); err != nil {
		return err
	}
	disks, _ := v.disks()
	if err := states.DeleteSnapshot(ctx, v.Monitor, tag, disks); err != nil {
		return fmt.Errorf("snapshot %q: %w", tag, err)
	}
	return v.forget(tag)
}

const file = "snapshots.json"

// machines returns what the snapshots' machines are, by tag.
func (v VM) machines() (all map[string]saved.Machine, err error) {
	var b []byte
	err = v.User.Do(func() (err error) {
		b, err = os.ReadFile(v.Dir.File(file))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]saved.Machine{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", v.Dir.File(file), err)
	}
	return all, nil
}

// note changes what is kept of the snapshots' machines.
func (v VM) note(change func(map[string]saved.Machine)) error {
	all, err := v.machines()
	if err != nil {
		return err
	}
	change(all)
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := v.Dir.MakeFor(v.User); err != nil {
		return err
	}
	return v.User.Do(func() error { return atomicfile.Write(v.Dir.File(file), append(b, '\n')) })
}

func (v VM) forget(tag string) error {
	return v.note(func(all map[string]saved.Machine) { delete(all, tag) })
}
