package qemu_test

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu"
)

// QEMU, while its guest runs and on all its threads, acts on no signal that a service
// manager, a terminal, a timer or a person sends: `quit` and SIGKILL still end it.
func TestQEMUHearsNoSignal(t *testing.T) {
	var log strings.Builder
	vm := start(t, config(requireQEMU(t)), qemu.StartOptions{Stderr: &log})
	if err := vm.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := []syscall.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT,
		unix.SIGCHLD, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF,
		unix.SIGWINCH, unix.SIGIO, unix.SIGPWR, 35, 64, unix.SIGSTOP, unix.SIGCONT,
	}
	for _, s := range sent {
		if err := syscall.Kill(vm.PID(), s); err != nil {
			t.Fatal(err)
		}
		var status struct{ Status string }
		if s == unix.SIGSTOP {
			continue
		}
		if err := vm.Monitor().Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
			t.Fatalf("after signal %d (%s): %q, %v\n%s", s, s, status.Status, err, &log)
		}
	}
	if err := vm.Stop(t.Context(), qemu.StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if s := vm.Wait(); s.Err() != nil || strings.Contains(log.String(), "terminating") {
		t.Errorf("got %+v and %q, want a clean exit", s, &log)
	}
}
