package qemu

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// confineThread gives up, for this thread and its children, ever gaining
// privileges. Root can also empty the bounding set, without which a child that
// stays root would have every capability.
func confineThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return confine.DropBounding(0)
}

// closeOnExec marks every descriptor of this process, since Go marks only
// those it opened: one inherited from a careless parent would reach QEMU.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// Signals 1 to 31 that end a process by default and are sent by other processes, timers or
// limits: not the faults, SIGABRT and SIGSYS, by which QEMU crashes.
var endings = []unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT,
	unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR,
}

const (
	firstRealTime = 35 // 32 to 34 belong to the C library
	lastRealTime  = 64
)

// deafenThread blocks, for this thread and its children, the signals that end a process.
// What ends a service, a login session or the host sends SIGTERM to all its processes:
// QEMU would end by it while its guest still writes. Blocked signals stay blocked through
// execve(2). Ignored ones would not do: QEMU sets handlers for SIGINT, SIGHUP and SIGTERM
// (os_setup_signal_handling in os-posix.c). It unblocks none of them, and no thread of its own needs
// one but SIGUSR1, which a vCPU of KVM unblocks for itself (kvm_init_cpu_signals).
func deafenThread() error {
	var set unix.Sigset_t
	for _, s := range endings {
		block(&set, s)
	}
	for s := unix.Signal(firstRealTime); s <= lastRealTime; s++ {
		block(&set, s)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	return nil
}

// block adds a signal to a set, as sigaddset(3).
func block(set *unix.Sigset_t, s unix.Signal) {
	set.Val[(s-1)/bits.UintSize] |= 1 << ((s - 1) % bits.UintSize)
}
