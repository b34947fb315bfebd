package rundir

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Unusable tells that qnet cannot keep its files in a directory.
type Unusable struct {
	What string // "run directory", "state directory" or "directory of VMs"
	Dir  string
	Err  error
}

// Error names the directory and the cause.
func (e *Unusable) Error() string { return fmt.Sprintf("use %s %s: %v", e.What, e.Dir, e.Err) }

// Unwrap returns the cause.
func (e *Unusable) Unwrap() error { return e.Err }

// Full reports whether the file system has no room, or takes no writes at all: what the
// user named is right, and the host cannot do it.
func (e *Unusable) Full() bool {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO} {
		if errors.Is(e.Err, errno) {
			return true
		}
	}
	return false
}

// Hint says what to do about the cause.
func (e *Unusable) Hint() string {
	flag := map[string]string{
		"run directory": "--run-dir (QNET_RUN_DIR)", "state directory": "--state-dir (QNET_STATE_DIR)", "directory of VMs": "XDG_DATA_HOME or --state-dir (QNET_STATE_DIR)",
	}[e.What]
	for _, c := range []struct {
		is  error
		why string
	}{
		{ErrUntrusted, "qnet keeps its files where only root, or you, may put any"},
		{unix.EROFS, "its file system is mounted read-only"},
		{unix.ENOSPC, "its file system is full: make room"},
		{unix.EDQUOT, "your quota on its file system is used up: make room"},
		{unix.EACCES, "you may not write there: is HOME or XDG_RUNTIME_DIR another user's?"},
		{unix.EPERM, "you may not write there"},
		{unix.ENOTDIR, "a part of the path is a file"},
		{unix.ENAMETOOLONG, "the path is too long"},
		{unix.ELOOP, "the path is a loop of symbolic links"},
		{unix.EIO, "its disk has errors"},
	} {
		if errors.Is(e.Err, c.is) {
			return fmt.Sprintf("%s; name another directory by %s", c.why, flag)
		}
	}
	return "name another directory by " + flag
}
