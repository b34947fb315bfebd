// Package vmdir is the directory of one VM that stays from run to run: its disk, the
// firmware's variables, its keys, and a record of what it was made from.
//
//	<vms>/<vm>/record.json  what the VM is and what its disks rest on
//	<vms>/<vm>/lock         held while the VM runs or its files are changed
//	<vms>/<vm>/disk.qcow2   the overlay on its image
//	<vms>/<vm>/vars.fd      variables of UEFI
//	<vms>/<vm>/tpm/         state of the TPM
//	<vms>/<vm>/hostkeys/    SSH host keys that the guest is given
//	<vms>/<vm>/seed.json    identity of its first boot
//	<vms>/<vm>/memory/      what a suspended VM goes on from
//
// A VM whose profile needs none of these has no directory. Everything here is the user's:
// the functions run with the caller's rights, which under sudo the caller makes those of the
// user (asuser.User.Do).
package vmdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/profiles"
)

// ErrBadName is wrapped by the error for a name that no VM can have.
var ErrBadName = errors.New("not a name of a VM")

// Dir is the directory of one VM. It need not exist.
type Dir struct{ vms, name string }

// New returns the directory of a VM below that of all VMs, place.Places.VMs. It makes
// nothing.
func New(vms, name string) (Dir, error) {
	switch {
	case !profiles.ValidName(name):
		return Dir{}, fmt.Errorf("%.80q: %w that matches %s", name, ErrBadName, profiles.NamePattern)
	case vms == "":
		return Dir{}, errors.New("choose directory of VMs: you have no home; set HOME, or QNET_STATE_DIR")
	}
	return Dir{vms, name}, nil
}

// Name is the VM's name.
func (d Dir) Name() string { return d.name }

// Path is the directory.
func (d Dir) Path() string { return filepath.Join(d.vms, d.name) }

// File is the path of one of the VM's files.
func (d Dir) File(name string) string { return filepath.Join(d.Path(), name) }

// Make makes the directory, which only its user may enter: it holds keys.
func (d Dir) Make() error {
	if err := os.MkdirAll(d.Path(), 0o700); err != nil {
		return fmt.Errorf("make directory of VM %q: %w", d.name, err)
	}
	return nil
}

// Exists reports whether the VM has the directory.
func (d Dir) Exists() bool {
	info, err := os.Lstat(d.Path())
	return err == nil && info.IsDir()
}

// Remove removes the directory and all that is in it, and nothing that symbolic links in it
// lead to. The caller holds the lock.
func (d Dir) Remove() error {
	root, err := os.OpenRoot(d.vms)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(root.RemoveAll(d.name), root.Close())
	}
	if err != nil {
		return fmt.Errorf("remove files of VM %q: %w", d.name, err)
	}
	return nil
}

// Lock takes the VM's lock, or returns an error that wraps lockfile.ErrHeld. The directory
// must exist.
func (d Dir) Lock() (*lockfile.Lock, error) { return lockfile.Try(d.File("lock")) }

// Held reports whether a process holds the VM's lock. It changes nothing.
func (d Dir) Held() bool {
	f, err := os.Open(d.File("lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Suspended reports whether the VM's memory is kept, so that its next run goes on from there.
func (d Dir) Suspended() bool {
	_, err := os.Stat(d.File("memory"))
	return err == nil
}

// Record is what qnet knows of a VM that was run.
type Record struct {
	Profile string    `json:"profile,omitempty"` // absolute path of its profile; "" for one that was run by its image's name
	Image   string    `json:"image,omitempty"`   // as profiles.Image.String
	Allowed []string  `json:"allowed,omitempty"` // folders that the profile may name besides its own, by --allow-path
	User    string    `json:"user,omitempty"`    // the account that the first boot made
	LastRun time.Time `json:"last_run,omitzero"`
	Bases   []Base    `json:"bases,omitempty"` // what its overlays rest on
	// Unnamed says that the VM's disk is that of a guest which was booted for several VMs, and
	// which was not told yet that it is this one: the next run begins the disk anew.
	Unnamed bool `json:"unnamed,omitempty"`
}

// Base is what one of the VM's overlays rests on. With another base the guest would see mixed
// data, and nothing would complain.
type Base struct {
	Overlay string `json:"overlay"` // path of the overlay, relative to the VM's directory or absolute
	Path    string `json:"path"`    // absolute, of the base
	Digest  string `json:"digest"`  // "sha256:" and hex digits of the base's bytes
}

// Load reads the record. The error wraps fs.ErrNotExist for a VM without one.
func (d Dir) Load() (Record, error) {
	var r Record
	b, err := os.ReadFile(d.File("record.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read record of VM %q: %w", d.name, err)
	}
	return r, nil
}

// Save writes the record in one go. The caller holds the lock.
func (d Dir) Save(r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = atomicfile.Write(d.File("record.json"), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write record of VM %q: %w", d.name, err)
	}
	return nil
}

// List returns the directories of all VMs, sorted by name. The directory of VMs may be
// missing.
func List(vms string) ([]Dir, error) {
	entries, err := os.ReadDir(vms)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	var list []Dir
	for _, e := range entries {
		if e.IsDir() && profiles.ValidName(e.Name()) {
			list = append(list, Dir{vms, e.Name()})
		}
	}
	return list, nil
}
