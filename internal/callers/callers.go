// Package callers lets processes in by a UNIX socket: only those of certain users, and so
// few at a time that a flood of them costs the serving process neither its memory nor its
// descriptors.
//
// A caller waits until the server knows what it wants, and is inside from then on. Of those
// that wait, the one that has been silent for longest makes room for the next: a caller that says
// at once what it wants is served during a flood, too.
package callers

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mostWaiting is how many callers may be let in that have not said what they want.
const mostWaiting = 64

// scarcePause is the wait for a descriptor, or for memory, that another process has. The
// kernel causes no event when it has one again.
const scarcePause = 20 * time.Millisecond

// Door lets the callers of a socket in. Its methods may be called concurrently.
type Door struct {
	listener net.Listener
	most     int
	users    []uint32

	mu      sync.Mutex
	waiting []*Caller // the one that came first is first
	inside  int
}

// At returns the door of a socket of the network "unix" or "unixpacket". Root, the process's
// own user and the given ones may enter, and so many of them may be inside at a time.
func At(l net.Listener, most int, users ...uint32) *Door {
	return &Door{listener: l, most: most, users: append(slices.Clone(users), 0, uint32(os.Geteuid()))}
}

// Caller is a connection that was let in.
type Caller struct {
	*net.UnixConn
	uid    uint32
	door   *Door
	closed chan struct{}
	state  state // guarded by Door.mu
}

type state int

const (
	waits state = iota
	inside
	gone
)

// Next returns the next caller. It returns an error when the listener is closed, and only
// then: it outlasts a time in which there are no descriptors.
func (d *Door) Next() (*Caller, error) {
	for {
		c, err := d.listener.Accept()
		if isScarce(err) {
			if !d.dismiss() {
				time.Sleep(scarcePause) //nolint:forbidigo // as said
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		conn, ok := c.(*net.UnixConn)
		uid, known := uint32(0), false
		if ok {
			uid, known = d.knows(conn)
		}
		if !known {
			c.Close()
			continue
		}
		return d.admit(conn, uid), nil
	}
}

func isScarce(err error) bool {
	for _, errno := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// knows returns the user that made the connection (SO_PEERCRED in unix(7)), and whether that user
// may enter.
// The mode of the socket's file says the same, unless another program changes it.
func (d *Door) knows(conn *net.UnixConn) (uid uint32, may bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlErr != nil || err != nil {
		return 0, false
	}
	return peer.Uid, slices.Contains(d.users, peer.Uid)
}

// admit lets a connection in, in the place of another if too many wait.
func (d *Door) admit(conn *net.UnixConn, uid uint32) *Caller {
	c := &Caller{UnixConn: conn, uid: uid, door: d, closed: make(chan struct{})}
	d.mu.Lock()
	full := len(d.waiting) >= mostWaiting
	d.mu.Unlock()
	if full {
		d.dismiss()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, c)
	return c
}

// dismiss closes the connection of the first caller that waits and is silent, or else of the
// first. It reports whether there was one.
func (d *Door) dismiss() bool {
	d.mu.Lock()
	var c *Caller
	if len(d.waiting) > 0 {
		c = d.waiting[max(slices.IndexFunc(d.waiting, (*Caller).silent), 0)]
	}
	d.mu.Unlock()
	if c == nil {
		return false
	}
	c.Close()
	return true
}

// silent reports whether the server has read all that the caller said so far.
func (c *Caller) silent() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	raw.Control(func(fd uintptr) { //nolint:errcheck // n is 0 then
		n, _, _ = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return n <= 0
}

// UID is the user that made the connection, as this process's user namespace knows it.
func (c *Caller) UID() uint32 { return c.uid }

// HungUp reports whether the caller has closed its end, and not only said that it sends no more.
func (c *Caller) HungUp() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var poll [1]unix.PollFd
	controlErr := raw.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		unix.Poll(poll[:], 0) //nolint:errcheck // it does not wait
	})
	return controlErr != nil || poll[0].Revents&unix.POLLHUP != 0
}

// Enter tells the door that the server knows what the caller wants. It reports false if too
// many are inside: the caller is to be told so, and still waits.
func (c *Caller) Enter() bool {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	if c.state != waits {
		return c.state == inside
	}
	if c.door.inside >= c.door.most {
		return false
	}
	c.leave()
	c.state = inside
	c.door.inside++
	return true
}

// leave takes the caller from where it is counted. Door.mu is held.
func (c *Caller) leave() {
	switch c.state {
	case waits:
		c.door.waiting = slices.DeleteFunc(c.door.waiting, func(other *Caller) bool { return other == c })
	case inside:
		c.door.inside--
	case gone:
	}
}

// Closed is closed with the connection: by Close, or to make room for others.
func (c *Caller) Closed() <-chan struct{} { return c.closed }

// Close closes the connection. It may be called again.
func (c *Caller) Close() error {
	c.door.mu.Lock()
	if c.state != gone {
		c.leave()
		c.state = gone
		close(c.closed)
	}
	c.door.mu.Unlock()
	return c.UnixConn.Close()
}
