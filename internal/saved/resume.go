package saved

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qmp"
	"github.com/qnet-vm/qnet/qemu/states"
)

// Resume is a run that goes on from a state. A nil Resume is one that boots.
type Resume struct {
	Record Record

	place  Place
	spent  bool
	shared bool // others go on from the state, too: see Shared
}

// Shared returns what a run goes on from that is one of several with the same state: the state
// stays. The guest's cables are pulled until the caller has told it who it is.
func Shared(p Place) (*Resume, error) {
	r, ok, err := p.Load()
	if err == nil && !ok {
		err = fmt.Errorf("find state: %w", os.ErrNotExist)
	}
	return &Resume{Record: r, place: p, shared: true}, err
}

// Find returns the state that a run goes on from, nil without one, and removes what is none.
// It returns an *Unusable if the guest cannot go on with the images as they are now.
func Find(p Place, images []*os.File) (*Resume, error) {
	r, ok, err := p.Load()
	if err == nil {
		err = p.Clean()
	}
	if err != nil || !ok {
		return nil, err
	}
	if err := p.Check(r, images); err != nil {
		return nil, err
	}
	return &Resume{Record: r, place: p}, nil
}

// Config returns the config to start QEMU with.
func (r *Resume) Config(c machine.Config) machine.Config {
	if r == nil {
		return c
	}
	return r.Record.Machine.Config(c)
}

// Restore returns what loads the guest into a QEMU that was started with the config, and
// spends the state: for qemu.StartOptions.
func (r *Resume) Restore(c machine.Config) func(context.Context, *qmp.Monitor) error {
	if r == nil {
		return nil
	}
	return func(ctx context.Context, m *qmp.Monitor) error {
		if is, was := VersionOf(m), r.Record.Machine.QEMU; release(is) != release(was) {
			return r.place.unusable(fmt.Errorf("QEMU is version %s, and was %s", is, was))
		}
		like := c
		if r.shared {
			like = Anyone(c)
		}
		why, err := r.Record.Machine.Differs(like)
		if err == nil && why != "" {
			err = r.place.unusable(errors.New(why))
		}
		if err != nil {
			return err
		}
		f, err := r.place.Open(r.Record)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := states.Load(ctx, m, f); err != nil {
			return err
		}
		if r.shared {
			return pull(ctx, m, len(c.NICs))
		}
		r.spent = true
		return r.place.Spend()
	}
}

// pull pulls the cables of a guest's NICs.
func pull(ctx context.Context, m Asker, nics int) error {
	for i := range nics {
		if err := m.Execute(ctx, "set_link", map[string]any{"name": machine.NICID(i), "up": false}, nil); err != nil {
			return fmt.Errorf("pull cable of NIC %d: %w", i, err)
		}
	}
	return nil
}

// Failed takes that the guest does not go on: the state is kept.
func (r *Resume) Failed(err error) error {
	if r == nil || err == nil {
		return err
	}
	if r.spent {
		err = errors.Join(err, r.place.Unspend())
	}
	if r.shared {
		return err
	}
	var known *Unusable
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	return r.place.unusable(err)
}

// Done takes that the guest goes on: the state is removed.
func (r *Resume) Done() error {
	if r == nil || r.shared {
		return nil
	}
	return r.place.Clean()
}

// VersionOf returns a QEMU's version, such as "7.2.22".
func VersionOf(m *qmp.Monitor) string {
	v := m.Version().QEMU
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
}

// Images are those of a machine's disks, and what these rest on.
func Images(c machine.Config) []*os.File {
	var list []*os.File
	for _, d := range c.Disks {
		for _, f := range []*os.File{d.File, d.Backing, d.Below} {
			if f != nil {
				list = append(list, f)
			}
		}
	}
	if c.UEFI != nil && c.UEFI.Vars != nil {
		list = append(list, c.UEFI.Vars)
	}
	return list
}

// Pin returns descriptors by which images can be looked at, and not read, after they were
// closed: QEMU's lock of an image is not touched when they are closed (open(2), O_PATH).
func Pin(images []*os.File) (pins []*os.File, err error) {
	for _, f := range images {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			for _, p := range pins {
				p.Close()
			}
			return nil, fmt.Errorf("look at disk %q: %w", f.Name(), err)
		}
		pins = append(pins, os.NewFile(uintptr(fd), f.Name()))
	}
	return pins, nil
}

// Cannot returns why the guest of a profile, with the machine that was made of it, cannot be
// saved, "" if it can.
func Cannot(p *profiles.Profile, c machine.Config) string {
	if len(p.Shares) > 0 {
		return "it shares folders with the host, and what its guest and virtiofsd agreed on about open files cannot be saved"
	}
	for _, d := range c.Disks {
		if d.Snapshot && !d.ReadOnly {
			return fmt.Sprintf("what its guest wrote to disk %q is thrown away at the end of the run (snapshot = true)", d.File.Name())
		}
	}
	return ""
}
