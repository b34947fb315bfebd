package qemu

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/qnet-vm/qnet/qemu/tail"
)

// ExitStatus is how a QEMU process ended.
type ExitStatus struct {
	Code          int            // 0 when it ended by a signal
	Signal        syscall.Signal // 0 when it exited
	GuestShutdown bool           // the guest powered itself off, as far as QEMU said so
	Panicked      bool           // the guest's kernel crashed, said so by its pvpanic device, and was not reset since
	Stderr        string         // the last lines that QEMU wrote, printable
}

// ErrPanicked is the error of a VM whose guest had panicked when it ended.
var ErrPanicked = errors.New("the guest panicked: its kernel crashed")

// Err returns ErrPanicked for a guest that panicked, nil for an exit with code 0, and an
// *[ExitError] otherwise.
func (s ExitStatus) Err() error {
	if s.Panicked {
		return ErrPanicked
	}
	if s.Code == 0 && s.Signal == 0 {
		return nil
	}
	return &ExitError{Status: s}
}

// ExitError is the end of a QEMU that did not end well.
type ExitError struct{ Status ExitStatus }

// Error returns the exit code or signal and QEMU's own last words.
func (e *ExitError) Error() string {
	s := e.Status
	how := fmt.Sprintf("QEMU exited with status %d", s.Code)
	if s.Signal != 0 {
		how = fmt.Sprintf("QEMU was killed by signal %d (%s)", int(s.Signal), s.Signal)
	}
	return how + tail.Suffix(s.Stderr)
}
