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
	switch {
	case crashes(s.Signal):
		how = fmt.Sprintf("QEMU aborted or crashed (signal %d, %s)", int(s.Signal), s.Signal)
	case s.Signal != 0:
		how = fmt.Sprintf("QEMU was killed by signal %d (%s)", int(s.Signal), s.Signal)
	}
	return how + tail.Suffix(s.Stderr)
}

// crashes reports whether a program that ends by the signal most likely did so by itself. The
// signal does not tell an abort from a fault: the kernel keeps SIGABRT from the first process of
// a PID namespace, which QEMU is where it is confined, and abort(3) goes on to an instruction
// that only ends it by SIGSEGV (pid_namespaces(7); abort in glibc, a_crash in musl).
func crashes(s syscall.Signal) bool {
	switch s {
	case syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP:
		return true
	}
	return false
}
