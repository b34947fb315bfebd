// Package rundir knows what a VM has below the run directory: its lock, held by
// its supervisor for life, and its directory with the control socket. The
// supervisor removes them at its end, and whoever outlives it does so else.
package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/lockfile"
)

// MaxSocketPath is how long a socket's path can be, in bytes (unix(7)).
const MaxSocketPath = 107

// ErrPathTooLong is of a run directory below which a socket's path would be longer.
var ErrPathTooLong = errors.New("path of a socket is too long")

// VM names a VM of a run directory.
type VM struct{ RunDir, Name string }

func (v VM) vms() string { return filepath.Join(v.RunDir, "vms") }

// Dir is the VM's directory.
func (v VM) Dir() string { return filepath.Join(v.vms(), v.Name) }

// Socket is its control socket.
func (v VM) Socket() string { return filepath.Join(v.Dir(), "control.sock") }

// Lock is the file its supervisor holds locked.
func (v VM) Lock() string { return filepath.Join(v.RunDir, "locks", "vm-"+v.Name) }

// Make makes the directory, which another VM's end may remove meanwhile. One that
// is there is a dead supervisor's: the caller holds the lock. The error may wrap
// ErrPathTooLong.
func (v VM) Make() error {
	if n := len(v.Socket()); n > MaxSocketPath {
		return fmt.Errorf("%w: %d bytes, %d fit: %s", ErrPathTooLong, n, MaxSocketPath, v.Socket())
	}
	for {
		err := os.MkdirAll(v.vms(), 0o755)
		if err == nil {
			err = os.Mkdir(v.Dir(), 0o755)
		}
		if errors.Is(err, fs.ErrExist) {
			if _, statErr := os.Stat(v.Dir()); statErr == nil {
				return nil
			}
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// Remove takes the directory away, and those above that are empty then.
func (v VM) Remove() error {
	err := os.RemoveAll(v.Dir())
	os.Remove(v.vms()) // fails, as it should, while another VM is there
	os.Remove(v.RunDir)
	return err
}

// List names the VMs of a run directory, living or left behind.
func List(runDir string) ([]VM, error) {
	entries, err := os.ReadDir(VM{RunDir: runDir}.vms())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	var list []VM
	for _, e := range entries {
		list = append(list, VM{runDir, e.Name()})
	}
	return list, nil
}

// Left reports whether there is anything of the VM, alive or not.
func (v VM) Left() bool {
	for _, path := range []string{v.Dir(), v.Lock()} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// Lives reports whether the VM's supervisor does.
func (v VM) Lives() (bool, error) {
	lock, err := lockfile.Try(v.Lock())
	if errors.Is(err, lockfile.ErrHeld) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Release()
}

// Collect removes what a dead supervisor left of the VM, its lock's file too. It
// returns an error that wraps lockfile.ErrHeld where the supervisor lives.
func (v VM) Collect() error {
	lock, err := lockfile.Try(v.Lock())
	if err != nil {
		return err
	}
	return errors.Join(v.Remove(), lock.Release())
}
