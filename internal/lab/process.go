package lab

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command. The kernel kills the command when this process ends, even
// by SIGKILL. wait is cmd.Wait, for any number of callers.
//
// The kernel sends the parent-death signal when the thread that forked ends
// (prctl(2), PR_SET_PDEATHSIG). A thread ends with a goroutine that locked it and did
// not unlock it, like the goroutine that starts a keeper. So Start keeps a thread
// for each child, until the child ends.
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
