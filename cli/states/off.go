package states

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/snapshots"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// named returns the profile of a VM that is named by its profile's path, nil for one that is
// named by its name.
func (s *states) named(operand string) (*profiles.Profile, error) {
	if !strings.ContainsRune(operand, filepath.Separator) && filepath.Ext(operand) != ".toml" {
		return nil, nil
	}
	return s.Load(operand, "")
}

// whileOff does something with the snapshots of a VM that does not run. p is its profile, nil
// for one that is known by its name.
func (s *states) whileOff(name, verb string, p *profiles.Profile, notRunning error, do func(snapshots.Off) error) (err error) {
	dir, err := vmdir.New(s.Places.VMs, name)
	if err != nil {
		return notRunning
	}
	record, _, unknown := s.Record(name)
	switch {
	case p == nil && errors.Is(unknown, fs.ErrNotExist):
		return &unknownOff{name, notRunning}
	case p == nil:
		if p, err = s.Load(name, name); err != nil {
			return err
		}
	case unknown == nil && record.Profile == p.Path: // it may name what its last run could
		p.Allowed = record.Allowed
	}
	there := dir.Exists()
	claim, err := dir.Hold(s.User)
	if err != nil {
		return err
	}
	defer func() {
		if there {
			err = errors.Join(err, claim.Release())
			return
		}
		err = errors.Join(err, claim.Destroy()) // it was made for the lock in it
	}()
	if _, suspended, _ := (saved.Place{Dir: dir, User: s.User}).Load(); suspended && verb != "ls" {
		return &isSuspended{name, verb}
	}
	files, err := hardware.Standing(p, s.Files())
	if err != nil {
		return err
	}
	defer files.Close()
	return do(snapshots.Off{VM: name, Config: hardware.Config(p, nil, files, nil), Search: s.Getenv("PATH"), User: s.User})
}

// unknownOff tells that a VM is off and that its disks are not known by its name.
type unknownOff struct {
	name string
	err  error
}

// Error says that it does not run.
func (e *unknownOff) Error() string {
	return e.err.Error() + ", and it keeps no files, so that its profile is not known by its name"
}

// Unwrap returns that it does not run.
func (e *unknownOff) Unwrap() error { return e.err }

// Hint says how to name it.
func (e *unknownOff) Hint() string {
	return fmt.Sprintf("say the path of its profile in place of %s, such as ./%[1]s.toml; qnet ls lists VMs", e.name)
}

// isSuspended tells that a VM is suspended, so that nothing may change its disks.
type isSuspended struct{ name, verb string }

// Error names it.
func (e *isSuspended) Error() string {
	return fmt.Sprintf("snapshot %s of VM %q: it is suspended, and what is saved of its memory belongs to its disks as they are", e.verb, e.name)
}

// Hint says how to go on.
func (e *isSuspended) Hint() string {
	return fmt.Sprintf("qnet resume %s lets it go on; qnet resume --discard %[1]s boots it without that memory", e.name)
}
