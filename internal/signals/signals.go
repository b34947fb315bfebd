// Package signals is how a command ends: by the signals of a user, a terminal or a service
// manager, and by the end of who reads its stdout.
package signals

import (
	"context"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Endings returns a channel of the signals by which a user, a terminal or a service
// manager ends a command. It leaves out those that are ignored: nohup(1) ignores SIGHUP,
// and a shell without job control ignores SIGINT and SIGQUIT of what it puts in the
// background.
func Endings() chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	signal.Stop(quits)
	return signals
}

// quits gets SIGQUIT while no channel of Endings does.
var quits = make(chan os.Signal, 1)

// EndByQuit has SIGQUIT (Ctrl-\) end the process as SIGINT does, without the stack trace of
// the Go runtime. Channels of Endings take precedence.
func EndByQuit() {
	if signal.Ignored(unix.SIGQUIT) {
		return
	}
	signal.Notify(quits, unix.SIGQUIT)
	go func() {
		for s := range quits {
			endBy(s)
		}
	}()
}

// onEnding calls f with each such signal until done is called.
func onEnding(f func(os.Signal)) (done func()) {
	signals := Endings()
	go func() {
		for s := range signals {
			f(s)
		}
	}()
	return func() { Ignore(signals) }
}

// Ignore ends a channel of Endings.
func Ignore(signals chan os.Signal) {
	if !signal.Ignored(unix.SIGQUIT) {
		signal.Notify(quits, unix.SIGQUIT)
	}
	signal.Stop(signals)
	close(signals)
}

// OnInterrupt calls f before such a signal ends the process. The process then ends by
// the signal itself: that is how a shell's loop learns to end, too. In place of SIGQUIT
// it is SIGINT, because the Go runtime answers SIGQUIT with a stack trace.
func OnInterrupt(f func()) (done func()) {
	return onEnding(func(s os.Signal) {
		f()
		endBy(s)
	})
}

// endBy ends the process by a signal, or by SIGINT in place of SIGQUIT.
func endBy(s os.Signal) {
	if s == unix.SIGQUIT {
		s = unix.SIGINT
	}
	signal.Reset(s)
	unix.Kill(os.Getpid(), s.(unix.Signal)) //nolint:errcheck // to itself
}

// Forward passes such signals on to a process, which is in a session of its own and does
// not get the terminal's.
func Forward(p *os.Process) (done func()) {
	return onEnding(func(s os.Signal) {
		p.Signal(s) //nolint:errcheck // it has ended
	})
}

// OutlivePipes makes a write to a pipe that nobody reads any more an error, also to stdout
// and stderr, where the Go runtime would end the process by SIGPIPE: a VM outlives the
// reader of its console.
func OutlivePipes() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

// readInterval is the time between two looks whether stdout is read.
const readInterval = 200 * time.Millisecond

// WhileRead returns a context that also ends when out is a pipe that nobody reads any
// more, or a terminal that hung up: `qnet logs -f web | head` would else stay until the
// guest writes again. cancel must be called.
func WhileRead(ctx context.Context, out io.Writer) (read context.Context, cancel context.CancelFunc) {
	read, cancel = context.WithCancel(ctx)
	if f, ok := out.(*os.File); ok {
		go func() {
			for read.Err() == nil {
				poll := []unix.PollFd{{Fd: int32(f.Fd())}} // poll(2) reports POLLERR and POLLHUP unasked
				if n, err := unix.Poll(poll, int(readInterval.Milliseconds())); n > 0 && err == nil {
					cancel()
				}
			}
		}()
	}
	return read, cancel
}
