// Package rundir names the files of VMs and networks below the run directory, and
// makes and removes their directories.
//
//	locks/plan            held around each plan and change of the host's network
//	locks/vm-<vm>         held by a VM's supervisor as long as it lives
//	locks/start-<network> held by a supervisor that starts the network's keeper
//	locks/net-<network>   held by the network's keeper as long as it lives
//	vms/<vm>/             control.sock of the supervisor
//	networks/<network>/   keeper.sock and journal.json of the keeper
//
// The process that holds a lock for life removes the directory when it ends. After a
// crash, the keeper or the next qnet command does.
package rundir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/perm"
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

// mkdir makes a directory of a VM or network below a parent that another process may
// remove at any time, because it is empty. It puts right what an older qnet left there.
func mkdir(dir, runDir string) error {
	for tries := 1; ; tries++ {
		err := perm.MkdirAll(dir, perm.Dir())
		if err == nil {
			err = mendRun(runDir)
		}
		if err == nil {
			_, err = perm.Mend(dir, perm.Dir())
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == maxTries {
			return err
		}
	}
}

// remove removes a directory of a VM or network, then those above it that are empty.
func remove(dir, runDir string) error {
	err := os.RemoveAll(dir)
	os.Remove(filepath.Dir(dir)) // fails, as it should, while it holds another directory
	os.Remove(runDir)
	return err
}

// names lists the entries of a directory, which may be missing.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list, err
}
