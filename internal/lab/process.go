package lab

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command that the kernel kills when this process ends, however
// that happens. wait is cmd.Wait for any number of callers.
//
// The kernel sends the parent-death signal at the end of the thread that forked
// (prctl(2), PR_SET_PDEATHSIG), and threads do end: with a goroutine that never
// unlocks its own, as the one that starts a keeper. So the child gets a thread
// for its life.
func Start(cmd *exec.Cmd) (wait func() error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	err = <-started
	return sync.OnceValue(func() error { return <-ended }), err
}
