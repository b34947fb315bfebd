package cli

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// endings returns a channel of the signals by which a user or a terminal ends a
// command. It leaves out those that are ignored: nohup(1) ignores SIGHUP, and a shell
// without job control ignores SIGINT of what it puts in the background.
func endings() chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// onEnding calls f with each such signal until done is called.
func onEnding(f func(os.Signal)) (done func()) {
	signals := endings()
	go func() {
		for s := range signals {
			f(s)
		}
	}()
	return func() { ignore(signals) }
}

// ignore ends a channel of endings.
func ignore(signals chan os.Signal) {
	signal.Stop(signals)
	close(signals)
}

// onInterrupt calls f before such a signal ends the process. The process then ends by
// the signal itself: that is how a shell's loop learns to end, too.
func onInterrupt(f func()) (done func()) {
	return onEnding(func(s os.Signal) {
		f()
		signal.Reset(s)
		unix.Kill(os.Getpid(), s.(unix.Signal)) //nolint:errcheck // to itself
	})
}

// forward passes such signals on to a process, which is in a session of its own and does
// not get the terminal's.
func forward(p *os.Process) (done func()) {
	return onEnding(func(s os.Signal) {
		p.Signal(s) //nolint:errcheck // it has ended
	})
}
