// Package packet makes and parses Ethernet frames, and reads and writes them on a link
// by packet(7) sockets: before the first firewall rule for a frame that comes in, and
// after the last one for a frame that goes out.
//
// Parsing and making frames is pure. Listen needs CAP_NET_RAW. The formats are those of
// RFC 791 (IPv4), 768 (UDP), 826 (ARP) and 4861 (neighbour discovery). All functions,
// and the methods of a Conn, may be called concurrently.
package packet

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Protocols to listen for (linux/if_ether.h).
const (
	All  = unix.ETH_P_ALL // with the frames that the host sends
	IPv4 = unix.ETH_P_IP
	None = 0 // for sockets that only send
)

// Conn is a socket on one link. Its methods may be called concurrently.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	to   unix.Sockaddr // nil for the link that the socket is bound to

	mu     sync.Mutex // guards closed, and that no deadline is set after Close
	closed bool
	users  sync.WaitGroup // reads and writes that run; Close lets go of the file after them
}

// Listen opens a socket on the link with that index, for the frames of a
// protocol that pass the filter; nil passes all. It needs CAP_NET_RAW.
func Listen(link int, protocol uint16, filter []bpf.Instruction) (*Conn, error) {
	// Without a protocol the socket receives nothing yet, so that no frame slips in
	// before the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	c := &Conn{file: os.NewFile(uintptr(fd), "packet"), to: &unix.SockaddrLinklayer{Ifindex: link, Protocol: swap(protocol)}}
	if c.raw, err = c.file.SyscallConn(); err == nil {
		err = c.SetFilter(filter)
	}
	if err == nil {
		err = c.control(func(fd int) error { return unix.Bind(fd, c.to) })
	}
	if err != nil {
		c.file.Close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return c, nil
}

// File returns the socket's descriptor for another process, which makes a Conn of it by Use,
// and closes the Conn. The filter stays what it is: that process cannot change it.
func (c *Conn) File() (*os.File, error) {
	defer c.Close() //nolint:errcheck // nothing was written to it
	if err := c.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1) }); err != nil {
		return nil, fmt.Errorf("lock filter of packet socket: %w", err)
	}
	return Copy(c.file)
}

// Copy returns a copy of a socket's descriptor for another process. Nothing waits on it here:
// packets that come to it wake only that process.
func Copy(socket syscall.Conn) (*os.File, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("copy socket: %w", err)
	}
	var own int
	controlErr := raw.Control(func(fd uintptr) {
		if own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(own, false) // else the runtime's poller takes it
		}
	})
	if err = errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("copy socket: %w", err)
	}
	return os.NewFile(uintptr(own), "socket"), nil
}

// Use makes a Conn of a descriptor of File. It names no link when it sends: a process that may
// name links could send by any of them.
func Use(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("use packet socket: %w", err)
	}
	c := &Conn{file: os.NewFile(uintptr(fd), "packet")}
	var err error
	if c.raw, err = c.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("use packet socket: %w", err)
	}
	return c, nil
}

// swap is htons(3); all machines qnet runs on are little-endian.
func swap(v uint16) uint16 { return v<<8 | v>>8 }

// SetFilter replaces the filter at once; nil passes all.
func (c *Conn) SetFilter(filter []bpf.Instruction) error {
	if filter == nil {
		filter = []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}}
	}
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return c.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// SetReadBuffer bounds the frames that wait for Read, in bytes of kernel memory. It
// needs CAP_NET_ADMIN and may exceed net.core.rmem_max.
func (c *Conn) SetReadBuffer(bytes int) error {
	err := c.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) })
	if err != nil {
		return fmt.Errorf("set read buffer: %w", err)
	}
	return nil
}

func (c *Conn) control(f func(fd int) error) error {
	var result error
	if err := c.raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

// Read reads one frame, cut off at the length of b. out says that the host sends the
// frame by this link. Read returns os.ErrClosed after Close, os.ErrDeadlineExceeded
// after the deadline of SetReadDeadline, and ENETDOWN once when the link goes down.
func (c *Conn) Read(b []byte) (n int, out bool, err error) {
	if !c.use() {
		return 0, false, os.ErrClosed
	}
	defer c.users.Done()
	waitErr := c.raw.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		n, from, err = unix.Recvfrom(int(fd), b, 0)
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			out = ll.Pkttype == unix.PACKET_OUTGOING
		}
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case waitErr == nil:
		return n, out, err
	case errors.Is(waitErr, os.ErrDeadlineExceeded) && !c.isClosed():
		return 0, false, os.ErrDeadlineExceeded
	}
	return 0, false, os.ErrClosed
}

// Each calls take with each frame that comes, until Close, and returns nil then; or until the link
// is gone. One that is down may come up again. The frame is take's until it returns.
func (c *Conn) Each(take func(frame []byte)) error {
	for b := make([]byte, 2048); ; {
		n, _, err := c.Read(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return err
		}
		take(b[:n])
	}
}

// use counts a user of the file, unless the connection is closed.
func (c *Conn) use() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.users.Add(1)
	}
	return !c.closed
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// SetReadDeadline ends Read at that time, also one that waits already; the zero time
// is never. It returns os.ErrClosed after Close.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	return c.file.SetReadDeadline(t)
}

// Write sends a frame by the link. It wraps ENETDOWN while the link is down.
func (c *Conn) Write(frame []byte) error {
	if !c.use() {
		return os.ErrClosed
	}
	defer c.users.Done()
	var err error
	waitErr := c.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), frame, 0, c.to)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if waitErr != nil {
		return os.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// Close ends Read and Write, and closes the socket afterwards in the background: the
// kernel takes a grace period of RCU, some 15 ms, to release a packet socket
// (packet_release in net/packet/af_packet.c). Neither Close nor a Read that it ends waits
// for that: a Read that was the last user of a closed file would.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	err := c.file.SetDeadline(time.Unix(1, 0))
	go func() {
		c.users.Wait()
		c.file.Close()
	}()
	return err
}
