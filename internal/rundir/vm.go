package rundir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/lockfile"
)

// VM names a VM of a run directory.
type VM struct{ RunDir, Name string }

func vmsDir(runDir string) string { return filepath.Join(runDir, "vms") }

// VMs lists the VMs of a run directory: those that run, and those whose supervisor
// died without removing its directory.
func VMs(runDir string) ([]VM, error) {
	list, err := names(vmsDir(runDir))
	var vms []VM
	for _, name := range list {
		vms = append(vms, VM{runDir, name})
	}
	return vms, err
}

// Dir returns the VM's directory.
func (v VM) Dir() string { return filepath.Join(vmsDir(v.RunDir), v.Name) }

// Socket returns the VM's control socket.
func (v VM) Socket() string { return filepath.Join(v.Dir(), "control.sock") }

// Screen returns the socket by which viewers see the VM's screen.
func (v VM) Screen() string { return filepath.Join(v.Dir(), "vnc.sock") }

// GDB returns the socket at which gdb controls the VM's processors.
func (v VM) GDB() string { return filepath.Join(v.Dir(), "gdb.sock") }

// Lock returns the file that the VM's supervisor keeps locked as long as it lives.
func (v VM) Lock() string { return filepath.Join(Locks(v.RunDir), "vm-"+v.Name) }

// Make makes the VM's directory. A directory that exists is a dead supervisor's: the
// caller holds the lock. The error may wrap ErrPathTooLong or ErrBadName.
func (v VM) Make() error {
	if err := checkSocket(v.Socket()); err != nil {
		return err
	}
	return mkdir(vmsDir(v.RunDir), v.Name, v.RunDir)
}

// Remove removes the VM's directory, and those above it that are empty then. The error may wrap
// ErrBadName.
func (v VM) Remove() error { return remove(vmsDir(v.RunDir), v.Name, v.RunDir) }

// Left reports whether the VM's directory or the file of its lock exists.
func (v VM) Left() bool {
	for _, path := range []string{v.Dir(), v.Lock()} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// Lives reports whether the VM's supervisor lives.
func (v VM) Lives() (bool, error) {
	if err := checkName(v.Name); err != nil {
		return false, err
	}
	lock, err := lockfile.Try(v.Lock())
	if errors.Is(err, lockfile.ErrHeld) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Release()
}

// Collect removes what a dead supervisor left: the directory and the file of the
// lock. The error wraps lockfile.ErrHeld if the supervisor lives, and ErrBadName where the name
// is none.
func (v VM) Collect() error {
	if err := checkName(v.Name); err != nil {
		return err
	}
	lock, err := lockfile.Try(v.Lock())
	if err != nil {
		return err
	}
	return errors.Join(v.Remove(), lock.Release())
}

// Collect removes what the dead supervisors of a run directory left, and names their
// VMs.
func Collect(runDir string) ([]VM, error) {
	vms, err := VMs(runDir)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	var removed []VM
	var errs []error
	for _, vm := range vms {
		err := vm.Collect()
		switch {
		case errors.Is(err, lockfile.ErrHeld): // it runs
		case err != nil:
			errs = append(errs, fmt.Errorf("remove files of VM %q: %w", vm.Name, err))
		default:
			removed = append(removed, vm)
		}
	}
	return removed, errors.Join(errs...)
}
