package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// kept are the capabilities a keeper needs; everything else goes.
const kept = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_BIND_SERVICE

// startLowered starts a command with the kept capabilities only. The bounding
// set limits what root's process gets at execve(2) (capabilities(7)) and belongs
// to a thread: the one that forks is not used for anything else, and ends.
func startLowered(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := lowerBoundingSet()
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}

func lowerBoundingSet() error {
	if os.Geteuid() != 0 {
		return nil // nothing but its file's capabilities awaits the keeper
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if kept&(uint64(1)<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		// EINVAL: an older kernel knows fewer. EPERM: we lack CAP_SETPCAP, and so will the keeper.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
