package relay

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostFlows bounds the flows of a forward: a packet of one more is dropped.
	mostFlows = 1024
	// mostPacket is the largest payload of UDP, in bytes.
	mostPacket = 1<<16 - 1
	// infoLen is the space of a control message with struct in6_pktinfo (ipv6(7)), the larger
	// of the two, in bytes.
	infoLen = 40
)

// flowIdle is how long a flow lasts without a packet.
var flowIdle = 60 * time.Second

// udp serves a port of UDP.
type udp struct {
	socket *net.UDPConn
	to     Target
	seats  *seats
	done   chan struct{} // closed at the forward's end
	tasks  sync.WaitGroup

	in, out atomic.Uint64

	mu    sync.Mutex // guards what follows
	flows map[flowKey]*flow
	total uint64
}

// flowKey is a flow's client and the address of the host that it asked: the control message,
// by which the answer leaves from that address.
type flowKey struct {
	client netip.AddrPort
	info   [infoLen]byte
	n      int
}

type flow struct {
	guest *net.UDPConn
	raw   syscall.RawConn
	last  atomic.Int64 // when the last packet passed, in nanoseconds of UNIX time
}

func serveUDP(socket *os.File, to Target, seats *seats) (*udp, error) {
	c, err := net.FilePacketConn(socket)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.New("it is none of UDP"), c.Close())
	}
	u := &udp{socket: conn, to: to, seats: seats, done: make(chan struct{}), flows: map[flowKey]*flow{}}
	u.tasks.Go(u.serve)
	return u, nil
}

func (u *udp) serve() {
	packet, info := make([]byte, mostPacket), make([]byte, infoLen)
	for {
		n, infoN, _, client, err := u.socket.ReadMsgUDPAddrPort(packet, info)
		if err != nil {
			if over(err, u.done) {
				return
			}
			continue
		}
		key := flowKey{client: client, n: infoN}
		copy(key.info[:], info[:infoN])
		u.pass(key, packet[:n])
	}
}

// pass sends a client's packet to the guest. A flow may have been ended by an ICMP error that
// an earlier packet met, which the kernel tells now: the packet then goes by a new one.
func (u *udp) pass(key flowKey, packet []byte) {
	for range 2 {
		f := u.flow(key)
		if f == nil {
			return
		}
		var err error
		werr := f.raw.Write(func(fd uintptr) bool {
			_, err = unix.Write(int(fd), packet) //nolint:gosec // a descriptor
			return true                          // UDP may lose a packet rather than keep the others waiting
		})
		if werr == nil && (err == nil || errors.Is(err, unix.EAGAIN)) {
			f.last.Store(time.Now().UnixNano())
			u.in.Add(uint64(len(packet)))
			return
		}
		u.drop(key, f)
	}
}

// flow returns the flow of a client, which it begins if there is none; nil if there can be
// none.
func (u *udp) flow(key flowKey) *flow {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[key]; f != nil {
		return f
	}
	to, _ := u.to()
	if !to.IsValid() || len(u.flows) >= mostFlows || u.closed() || !u.seats.take() {
		return nil
	}
	guest, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		u.seats.leave()
		return nil
	}
	raw, err := guest.SyscallConn()
	if err != nil {
		u.seats.leave()
		guest.Close()
		return nil
	}
	f := &flow{guest: guest, raw: raw}
	f.last.Store(time.Now().UnixNano())
	u.flows[key] = f
	u.total++
	u.tasks.Go(func() { u.answer(key, f) })
	return f
}

func (u *udp) closed() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// buffers have room for a packet each. Flows that wait have none.
var buffers = sync.Pool{New: func() any { return new([mostPacket]byte) }}

// answer passes the guest's packets on until the flow is idle, or ends by an ICMP error.
func (u *udp) answer(key flowKey, f *flow) {
	defer u.seats.leave()
	defer u.drop(key, f)
	for {
		idleAt := time.Unix(0, f.last.Load()).Add(flowIdle)
		if f.guest.SetReadDeadline(idleAt) != nil || !time.Now().Before(idleAt) {
			return
		}
		err := u.answers(key, f)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// answers passes packets on until there is an error.
func (u *udp) answers(key flowKey, f *flow) error {
	for {
		var failed error
		err := f.raw.Read(func(fd uintptr) bool {
			packet := buffers.Get().(*[mostPacket]byte)
			defer buffers.Put(packet)
			n, err := unix.Read(int(fd), packet[:]) //nolint:gosec // a descriptor
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				return false
			}
			if failed = err; err == nil {
				f.last.Store(time.Now().UnixNano())
				u.reply(key, packet[:n])
			}
			return true
		})
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
	}
}

// reply sends the guest's packet to the client, from the address that the client asked. One
// that cannot be sent is lost, as UDP's are.
func (u *udp) reply(key flowKey, packet []byte) {
	if _, _, err := u.socket.WriteMsgUDPAddrPort(packet, key.info[:key.n], key.client); err == nil {
		u.out.Add(uint64(len(packet)))
	}
}

// drop ends a flow, if that is still the key's.
func (u *udp) drop(key flowKey, f *flow) {
	u.mu.Lock()
	if u.flows[key] == f {
		delete(u.flows, key)
	}
	u.mu.Unlock()
	f.guest.Close()
}

func (u *udp) end() {
	u.mu.Lock()
	close(u.done)
	for _, f := range u.flows {
		f.guest.Close()
	}
	u.mu.Unlock()
	u.socket.Close()
	u.tasks.Wait()
}

func (u *udp) count() Count {
	u.mu.Lock()
	defer u.mu.Unlock()
	return Count{Connections: len(u.flows), Total: u.total, In: u.in.Load(), Out: u.out.Load()}
}
