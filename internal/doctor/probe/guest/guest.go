package guest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/songgao/water"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Guest is one NIC of a synthetic VM. Its methods may be called concurrently.
type Guest struct {
	MAC net.HardwareAddr
	Tap string // the link on the host

	tap *water.Interface

	mu        sync.Mutex // guards the fields below
	lease     Lease
	neighbors map[netip.Addr]net.HardwareAddr
	waiters   map[*waiter]struct{}
	id        uint16 // see NextID
	address6  netip.Addr
}

// Lease is what a guest knows about its network.
type Lease struct {
	Address  netip.Addr   `json:"address,omitzero"`
	Prefix   netip.Prefix `json:"prefix,omitzero"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`  // of the default route; zero without one
	Resolver netip.Addr   `json:"resolver,omitzero"` // the first name server; zero without one
	Server   netip.Addr   `json:"server,omitzero"`   // the DHCP server; zero without one
	MTU      int          `json:"mtu,omitempty"`     // option 26, or Ethernet's MTU
}

// waiter gets the first frame that matches.
type waiter struct {
	match func(frame []byte) bool
	got   chan []byte
}

// newGuest starts to play a guest behind a tap, whose file it closes.
func newGuest(mac net.HardwareAddr, tap string, file *os.File) *Guest {
	g := &Guest{
		MAC: mac, Tap: tap, neighbors: map[netip.Addr]net.HardwareAddr{}, waiters: map[*waiter]struct{}{}, id: uint16(rand.Uint32()),
		tap: &water.Interface{ReadWriteCloser: &tapFile{file, make([]byte, 1<<16)}},
	}
	go g.receive()
	return g
}

func (g *Guest) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tap.Close() // which ends receive
}

// Lease is the lease that the guest got or was configured with.
func (g *Guest) Lease() Lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease
}

// Configure gives the guest a lease without DHCP.
func (g *Guest) Configure(l Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease = l
}

// receive replies to what every guest replies to, and hands each frame to the waiters.
func (g *Guest) receive() {
	b := make([]byte, 1<<16)
	for {
		n, err := g.tap.Read(b)
		if err != nil {
			return // closed
		}
		frame := append([]byte{}, b[:n]...)
		g.dispatch(frame)
		if reply := g.reply(frame); reply != nil {
			g.Send(reply) //nolint:errcheck // the other side asks again
		}
	}
}

func (g *Guest) dispatch(frame []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.waiters {
		if w.match(frame) {
			select {
			case w.got <- frame:
			default: // it has a frame already
			}
		}
	}
}

// Send sends a frame of Ethernet.
func (g *Guest) Send(frame []byte) error {
	if _, err := g.tap.Write(frame); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// ErrSilence is wrapped by errors about packets that nothing answered.
var ErrSilence = errors.New("no answer")

// ask sends the frames, and sends them again after each interval, until a frame that
// matches arrives. It returns ErrSilence after the time within.
func (g *Guest) ask(ctx context.Context, within, again time.Duration, match func([]byte) bool, frames ...[]byte) ([]byte, error) {
	w := &waiter{match: match, got: make(chan []byte, 1)}
	g.mu.Lock()
	g.waiters[w] = struct{}{}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.waiters, w)
		g.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		for _, f := range frames {
			if err := g.Send(f); err != nil {
				return nil, err
			}
		}
		select {
		case frame := <-w.got:
			return frame, nil
		case <-time.After(again):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("%w within %s", ErrSilence, within)
			}
			return nil, ctx.Err()
		}
	}
}

// reply is what the kernel of a guest sends by itself: replies to ARP and ping.
func (g *Guest) reply(frame []byte) []byte {
	own := g.Lease().Address
	if a, ok := parseARP(frame); ok && a.op == arpRequest && a.target == own && own.IsValid() {
		return arp{op: arpReply, senderMAC: g.MAC, sender: own, targetMAC: a.senderMAC, target: a.sender}.frame()
	}
	p, ok := packet.ParseIP(frame)
	if !ok {
		return g.reply6(frame)
	}
	if p.Dst != own || p.Protocol != ICMP {
		return nil
	}
	return echoReply(p)
}
