// Package rundir names the files of VMs and networks below the run directory, and
// makes and removes their directories.
//
//	locks/plan            held around each plan and change of the host's network
//	locks/vm-<vm>         held by a VM's supervisor as long as it lives
//	locks/start-<network> held by a supervisor that starts the network's keeper
//	locks/net-<network>   held by the network's keeper as long as it lives
//	vms/<vm>/             control.sock of the supervisor; vnc.sock and gdb.sock
//	networks/<network>/   keeper.sock and journal.json of the keeper
//
// The process that holds a lock for life removes the directory when it ends. After a
// crash, the keeper or the next qnet command does.
package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/profiles"
)

// MaxSocketPath is the longest path that a socket can have, in bytes (unix(7)).
const MaxSocketPath = 107

// ErrPathTooLong is wrapped by the error for a run directory that is so long that the
// path of a socket below it exceeds MaxSocketPath.
var ErrPathTooLong = errors.New("path of a socket is too long")

// Locks returns the directory of all locks.
func Locks(runDir string) string { return filepath.Join(runDir, "locks") }

// PlanLock returns the lock that a process holds while it observes the host's network
// and changes it.
func PlanLock(runDir string) string { return filepath.Join(Locks(runDir), "plan") }

// maxTries bounds how often a directory that was removed meanwhile is made again: on some file
// systems, such as that of /proc, none can be made, and the error is the same.
const maxTries = 1000

// ErrBadName is wrapped by the error for a VM or a network whose name is none
// (profiles.ValidName): nothing is made or removed by it.
var ErrBadName = errors.New("not a name")

// checkName returns an error that wraps ErrBadName unless a VM or a network may have the name.
func checkName(name string) error {
	if !profiles.ValidName(name) {
		return fmt.Errorf("%.80q: %w that matches %s", name, ErrBadName, profiles.NamePattern)
	}
	return nil
}

// checkSocket returns an error that wraps ErrPathTooLong if the kernel refuses the path of a
// socket.
func checkSocket(path string) error {
	if n := len(path); n > MaxSocketPath {
		return fmt.Errorf("%w: %d bytes, %d fit: %s", ErrPathTooLong, n, MaxSocketPath, path)
	}
	return nil
}

// mkdir makes the directory of a VM or network below a parent that another process may remove
// at any time, because it is empty. It puts right what an older qnet left there.
func mkdir(parent, name, runDir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		err := makeIn(parent, name)
		if err == nil {
			err = mendRun(runDir)
		}
		if err == nil {
			_, err = perm.Mend(filepath.Join(parent, name), perm.Dir())
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == maxTries {
			return err
		}
	}
}

// makeIn makes the parent, and the directory in it, where they are missing. The error is
// fs.ErrNotExist if another process removed one of them meanwhile.
func makeIn(parent, name string) error {
	if err := perm.MkdirAll(parent, perm.Dir()); err != nil {
		return err
	}
	err := within(parent, func(r *os.Root) error { return r.Mkdir(name, perm.Dir()) })
	if errors.Is(err, fs.ErrExist) {
		_, err = os.Stat(filepath.Join(parent, name))
	}
	return err
}

// remove removes the directory of a VM or network, then those above it that are empty.
func remove(parent, name, runDir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := within(parent, func(r *os.Root) error { return r.RemoveAll(name) })
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	os.Remove(parent) // fails, as it should, while it holds another directory
	os.Remove(runDir)
	return err
}

// within does something in a directory and nowhere else, whatever names and symbolic links say.
func within(dir string, f func(*os.Root) error) error {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(f(r), r.Close())
}

// names lists the entries of a directory that can be names of VMs or networks. The directory
// may be missing.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []string
	for _, e := range entries {
		if profiles.ValidName(e.Name()) {
			list = append(list, e.Name())
		}
	}
	return list, err
}
