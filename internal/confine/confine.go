// Package confine takes rights and signals away from a thread before that thread starts a
// child.
//
// The rights of capabilities(7) belong to threads. [Start] gives them up on a thread of its own. Who
// does not use it locks the goroutine to its thread with runtime.LockOSThread before the call, starts
// the child from it, and never unlocks: the thread then ends with the goroutine, and no other work of
// the process runs without the rights.
package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxCapabilities is how many capabilities the kernel's interface has room for.
const maxCapabilities = 64

// NoNewRights gives up, for the calling thread and its children, ever gaining privileges.
// Root can also empty the bounding set but for keep, a mask of 1<<unix.CAP_*, without which
// a child that stays root would have every capability.
func NoNewRights(keep uint64) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return DropBounding(keep)
}

// Effective returns the calling thread's effective capabilities, a mask of 1<<unix.CAP_*
// (capget(2)). It fails where a filter of system calls forbids the question.
func Effective() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// DropBounding removes every capability from the calling thread's bounding set but
// those in keep, a mask of 1<<unix.CAP_*. The bounding set limits what a program of
// root's gets at execve(2).
//
// Without CAP_SETPCAP it changes nothing and returns nil. Such a child gains
// capabilities only by a set-user-ID program or by capabilities of its file, and
// neither works under PR_SET_NO_NEW_PRIVS.
func DropBounding(keep uint64) error {
	for c := range uintptr(maxCapabilities) {
		if keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
			return nil // past this kernel's last capability, or without CAP_SETPCAP
		case err != nil:
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
