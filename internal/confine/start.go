package confine

import (
	"os/exec"
	"runtime"
)

// Start starts a command on a thread that has given something up first, and waits for its end,
// after which ended is closed and the command has its ProcessState. The thread does nothing else,
// and ends with the command: at its end the kernel sends the signal of SysProcAttr.Pdeathsig
// (prctl(2)), and no other work of the process runs without what it gave up. The error is
// that of giveUp, or of the command's start.
func Start(cmd *exec.Cmd, giveUp func() error) (ended <-chan struct{}, err error) {
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := giveUp()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state says it all; other errors are about copying output
			close(done)
		}
	}()
	return done, <-started
}
