package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// starterLives reports whether the supervisor that started this keeper lives.
func (s *server) starterLives() bool { return os.Getppid() == s.spec.Starter }

// heedTerm waits for SIGTERM, and does what doc.go says of it. It calls handOver with
// server.changes held for good: the process then ends between two changes.
func (s *server) heedTerm(ctx context.Context, terms <-chan os.Signal, handOver func()) {
	select {
	case <-ctx.Done():
		return
	case <-terms:
	}
	s.stopIfIdle(ctx)
	if s.starterLives() {
		s.NoteOnce(s.about(fmt.Sprintf("the keeper of network %s got SIGTERM and goes on: VMs use the network (qnet stop ends them)", s.place.Name)))
	}
	for !s.mayHandOver(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(expectInterval):
		}
	}
	handOver()
}

// mayHandOver takes server.changes for good if the keeper may leave the network to the next
// one: its own starter is gone, and a supervisor lives that starts the next.
func (s *server) mayHandOver(ctx context.Context) bool {
	if s.starterLives() || s.changes.lock(ctx) != nil {
		return false
	}
	if !s.over && s.heard() {
		return true
	}
	s.changes.unlock()
	return false
}

// leave leaves a network that has lost its steward to the next keeper, which has one, as if
// this keeper were killed. It reports false where no supervisor lives that starts it.
func (s *server) leave(ctx context.Context, cause error) bool {
	s.log.Warn("leave the network to the next keeper", "cause", cause)
	if s.changes.lock(ctx) != nil {
		return false
	}
	if !s.over && s.heard() {
		return true
	}
	s.changes.unlock()
	return false
}

// heard reports whether a VM's supervisor still has its connection open. server.changes is
// held.
func (s *server) heard() bool {
	for _, m := range s.vms {
		if m.conn != nil && open(m.conn) {
			return true
		}
	}
	return false
}

// open reports whether the other end of a connection is open, as poll(2) says.
func open(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	closed := true
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		closed = err != nil || n > 0
	})
	return err == nil && !closed
}
