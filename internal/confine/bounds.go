package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bounds are the most that a process may use, by unix.RLIMIT_* (getrlimit(2)).
type Bounds map[int]uint64

// Set bounds a process that has just started. What the process has used already counts, and
// limits that are lower stay. A process that has ended is no error: its status says why.
//
// For a process of another user the kernel wants CAP_SYS_RESOURCE (prlimit(2)), which root in a
// container seldom has. as then runs a function with the rights of that user; nil where the
// process is the caller's own.
func (b Bounds) Set(pid int, as func(f func() error) error) error {
	err := b.set(pid)
	if errors.Is(err, unix.EPERM) && as != nil {
		err = as(func() error { return b.set(pid) })
	}
	return err
}

func (b Bounds) set(pid int) error {
	for resource, most := range b {
		var old unix.Rlimit
		err := unix.Prlimit(pid, resource, nil, &old)
		if err == nil {
			limit := unix.Rlimit{Cur: min(old.Cur, most), Max: min(old.Max, most)}
			err = unix.Prlimit(pid, resource, &limit, nil)
		}
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("limit process %d: %w", pid, err)
		}
	}
	return nil
}
