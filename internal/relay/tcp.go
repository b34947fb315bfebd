package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive finds peers that are gone without a word: a guest that was reset, a client whose
// machine lost its power. Such a connection ends after two minutes and a half.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 6}

// tcp serves a port of TCP.
type tcp struct {
	listener *net.TCPListener
	to       Target
	seats    *seats
	ctx      context.Context // ends with the forward
	cancel   context.CancelFunc
	tasks    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	links   map[*link]struct{}
	carried Count // by links that have ended; Total by all
}

// link is one connection: the client's and the guest's, which is nil while it is dialled.
type link struct {
	client, guest *net.TCPConn
	ends          atomic.Int32 // directions that have ended
	in, out       int64        // bytes; each direction writes its own
}

func serveTCP(socket *os.File, to Target, seats *seats) (*tcp, error) {
	l, err := net.FileListener(socket)
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("it is none of TCP"), l.Close())
	}
	t := &tcp{listener: listener, to: to, seats: seats, links: map[*link]struct{}{}}
	t.ctx, t.cancel = context.WithCancel(context.Background()) // of the forward, which no call outlives
	t.tasks.Go(t.serve)
	return t, nil
}

func (t *tcp) serve() {
	for {
		client, err := t.listener.AcceptTCP()
		switch {
		case err == nil && t.enter(client):
		case err == nil:
			reset(client)
		case over(err, t.ctx.Done()):
			return
		}
	}
}

// enter begins to carry a connection, if there is room for it.
func (t *tcp) enter(client *net.TCPConn) bool {
	if !t.seats.take() {
		return false
	}
	l := &link{client: client}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		t.seats.leave()
		return false
	}
	t.links[l] = struct{}{}
	t.carried.Total++
	t.tasks.Go(func() {
		defer t.leave(l)
		if t.dial(l) {
			l.carry()
		}
	})
	return true
}

func (t *tcp) leave(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.links, l)
	t.carried.In += uint64(l.in)   //nolint:gosec // not negative
	t.carried.Out += uint64(l.out) //nolint:gosec // not negative
	t.seats.leave()
}

// dial connects to the guest. If the guest has no address, refuses or does not answer, the
// client is reset: to it, the port is closed.
func (t *tcp) dial(l *link) bool {
	to, within := t.to()
	if !to.IsValid() {
		reset(l.client)
		return false
	}
	d := net.Dialer{Timeout: within, KeepAliveConfig: keepAlive}
	conn, err := d.DialContext(t.ctx, "tcp", to.String())
	if err != nil {
		reset(l.client)
		return false
	}
	l.client.SetKeepAliveConfig(keepAlive) //nolint:errcheck // without, it only lasts longer
	t.mu.Lock()
	l.guest = conn.(*net.TCPConn)
	ended := t.ctx.Err() != nil
	t.mu.Unlock()
	if ended { // after end looked for connections
		l.reset()
	}
	return !ended
}

// carry copies in both directions until both have ended.
func (l *link) carry() {
	var guests sync.WaitGroup
	guests.Go(func() { l.out = l.copy(l.client, l.guest) })
	l.in = l.copy(l.guest, l.client)
	guests.Wait()
}

// copy copies one direction, and passes its end on.
func (l *link) copy(to, from *net.TCPConn) int64 {
	n, err := io.Copy(to, from)
	if err != nil {
		l.reset()
		return n
	}
	if l.ends.Add(1) == 2 {
		l.client.Close() // what they have not sent yet, the kernel still sends
		l.guest.Close()
		return n
	}
	if to.CloseWrite() != nil || l.broken(from) {
		l.reset()
	}
	return n
}

// broken waits until a side that sends no more is reset, or the other direction has ended. It
// reports whether it was reset: nobody reads from it, so nobody else sees that.
func (l *link) broken(side *net.TCPConn) bool {
	raw, err := side.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd)}} //nolint:gosec // a descriptor; POLLERR is always reported
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0 && poll[0].Revents&unix.POLLERR != 0
	})
	return err == nil && l.ends.Load() < 2
}

// reset ends both sides at once, by a reset.
func (l *link) reset() {
	reset(l.client)
	reset(l.guest)
}

// reset closes a connection so that its peer sees a reset (SO_LINGER in socket(7)).
func reset(c *net.TCPConn) {
	if c != nil {
		c.SetLinger(0) //nolint:errcheck // it is closed already
		c.Close()
	}
}

func (t *tcp) end() {
	t.cancel()
	t.listener.Close() //nolint:errcheck // it accepts no more, whatever the error
	t.mu.Lock()
	for l := range t.links {
		l.reset()
	}
	t.mu.Unlock()
	t.tasks.Wait()
}

// count adds to what the ended connections carried what the kernel says of the open ones.
func (t *tcp) count() Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.carried
	c.Connections = len(t.links)
	for l := range t.links {
		in, out := carried(l.client)
		c.In += in
		c.Out += out
	}
	return c
}

// carried returns how many bytes came from a client, and went to it (TCP_INFO in tcp(7)).
func carried(c *net.TCPConn) (in, out uint64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // it ends just now
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil { //nolint:gosec // a descriptor
			in, out = info.Bytes_received, info.Bytes_sent-info.Bytes_retrans
		}
	})
	return in, out
}
