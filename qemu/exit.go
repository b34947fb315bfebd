package qemu

import (
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

// Err returns nil for an exit with code 0 of a guest that had not panicked, and an
// *[ExitError] otherwise.
func (s ExitStatus) Err() error {
	if s.Code == 0 && s.Signal == 0 && !s.Panicked {
		return nil
	}
	return &ExitError{Status: s}
}

// ExitError is the end of a QEMU, or of its guest, that did not end well.
type ExitError struct{ Status ExitStatus }

// Error returns the exit code or signal and QEMU's own last words.
func (e *ExitError) Error() string {
	s := e.Status
	if s.Panicked {
		return "the guest panicked: its kernel crashed"
	}
	how := fmt.Sprintf("QEMU exited with status %d", s.Code)
	if s.Signal != 0 {
		how = fmt.Sprintf("QEMU was killed by signal %d (%s)", int(s.Signal), s.Signal)
	}
	return how + tail.Suffix(s.Stderr)
}
