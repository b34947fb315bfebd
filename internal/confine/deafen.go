package confine

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// endings are the signals of 1 to 31 that end a process by default and come from other
// processes, timers and limits. The faults, SIGABRT and SIGSYS are not among them: a crash
// must end the process.
var endings = []unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT,
	unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR,
}

const (
	firstRealTime = 35 // 32 to 34 belong to the C library
	lastRealTime  = 64
)

// Deafen blocks, for the calling thread and its children, the signals that end a process.
// A service manager that ends a service, a login session or the host sends SIGTERM to all
// its processes: QEMU would end by it while its guest still writes. Blocked signals stay
// blocked through execve(2). To ignore them is not enough: QEMU sets handlers for SIGINT,
// SIGHUP and SIGTERM (os_setup_signal_handling in os-posix.c). It unblocks none of them. Of
// the others it needs SIGUSR1 only, which a vCPU of KVM unblocks for itself
// (kvm_init_cpu_signals in accel/kvm/kvm-all.c).
func Deafen() error {
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
