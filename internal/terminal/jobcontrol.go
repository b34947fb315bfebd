package terminal

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// FollowShell makes the terminal the shell's while a SIGTSTP has this process stopped, and
// the guest's again when the shell lets it go on. The guest itself runs on meanwhile: QEMU
// is in a session of its own. done must be called.
func (t *Terminal) FollowShell() (done func()) {
	stops, goesOn := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stops, unix.SIGTSTP)
	signal.Notify(goesOn, unix.SIGCONT)
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case <-quit:
				return
			case <-goesOn: // from a SIGSTOP: the shell may have changed the mode
				t.suspend(func() {})
			case <-stops:
				if !hasShell() {
					continue
				}
				t.suspend(func() {
					// The Go runtime does not give SIGTSTP back its default action.
					unix.Kill(unix.Getpid(), unix.SIGSTOP) //nolint:errcheck // to itself
					<-goesOn
				})
			}
		}
	}()
	return func() {
		signal.Stop(stops)
		signal.Stop(goesOn)
		close(quit)
	}
}

// hasShell reports whether a shell with job control can let this process go on when it
// stops: the leader of the session is in another process group, and lives. Without one, the
// kernel stops no process by SIGTSTP either (setpgid(2), orphaned process groups).
func hasShell() bool {
	leader, err := unix.Getsid(0)
	if err != nil || leader == unix.Getpgrp() {
		return false
	}
	_, err = unix.Getpgid(leader)
	return err == nil
}
