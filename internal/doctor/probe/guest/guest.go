package probe

import (
	"cmp"
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
	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// Guest is a guest's NIC on a network. Its methods may be called concurrently.
type Guest struct {
	MAC net.HardwareAddr
	Tap string // the host's side of it

	tap *water.Interface

	mu        sync.Mutex // guards what follows
	lease     Lease
	neighbors map[netip.Addr]net.HardwareAddr
	waits     map[*wait]struct{}
	id        uint16 // of nextID
}

// Lease is what a guest knows of its network.
type Lease struct {
	Address  netip.Addr   `json:"address,omitzero"`
	Prefix   netip.Prefix `json:"prefix,omitzero"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`  // the default route, zero if none was offered
	Resolver netip.Addr   `json:"resolver,omitzero"` // the first name server, zero if none was
	Server   netip.Addr   `json:"server,omitzero"`   // the DHCP server; zero: configured without one
	MTU      int          `json:"mtu,omitempty"`     // option 26, 1500 where it was not given
}

// wait is somebody who waits for a frame.
type wait struct {
	match func(frame []byte) bool
	got   chan []byte
}

// tapFile carries frames over a tap with IFF_VNET_HDR, as QEMU gets it: a
// virtio_net_hdr stands before each (linux/virtio_net.h). All zeros says that
// the checksums are complete; offloads, which a fresh tap has off, would say else.
type tapFile struct {
	*os.File
	buffer []byte // of Read, which one goroutine calls
}

const vnetHeader = 10

func (f *tapFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(f.buffer)
	if err != nil {
		return 0, err
	}
	return copy(b, f.buffer[min(vnetHeader, n):n]), nil
}

func (f *tapFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(append(make([]byte, vnetHeader, vnetHeader+len(b)), b...))
	return max(n-vnetHeader, 0), err
}

// Member is a VM of guests, one for each of its NICs. Close it.
type Member struct {
	Guests []*Guest
	reg    *keeper.Registration
}

// Place is where a synthetic VM is to be.
type Place struct {
	Keeper   keeper.Options
	Network  keeper.Network
	VM       string // no running VM's name
	Identity string // the MACs derive from it and the host's salt; "" is VM
	NICs     int    // at least 1

	// Trace makes the keeper mark the VM's packets, and those that come from these
	// addresses, for nft.Trace; nil marks none.
	Trace []netip.Addr
}

// Join makes the VM and starts to play its NICs. Errors are keeper.Join's.
func Join(ctx context.Context, p Place) (*Member, error) {
	salt, err := journal.LoadSalt(p.Keeper.StateDir)
	if err != nil {
		return nil, err
	}
	var ports []keeper.PortRequest
	for i := range p.NICs {
		ports = append(ports, keeper.PortRequest{NIC: i, MAC: macgen.Derive(salt, "probe/"+cmp.Or(p.Identity, p.VM), i), Trace: p.Trace})
	}
	reg, err := keeper.Join(ctx, p.Keeper, p.Network, p.VM, ports)
	if err != nil {
		return nil, err
	}
	m := &Member{reg: reg}
	for _, port := range reg.Ports() {
		m.Guests = append(m.Guests, newGuest(port))
	}
	return m, nil
}

// Info is the network as it was at Join.
func (m *Member) Info() keeper.Info { return m.reg.Info() }

// Close takes the VM off the network, and returns when that is undone.
func (m *Member) Close(ctx context.Context) error {
	for _, g := range m.Guests {
		g.close()
	}
	return errors.Join(m.reg.Leave(ctx), m.reg.Close())
}

func newGuest(p keeper.Port) *Guest {
	g := &Guest{
		MAC: p.MAC, Tap: p.Tap, neighbors: map[netip.Addr]net.HardwareAddr{}, waits: map[*wait]struct{}{}, id: uint16(rand.Uint32()),
		tap: &water.Interface{ReadWriteCloser: &tapFile{p.File, make([]byte, 1<<16)}},
	}
	go g.receive()
	return g
}

func (g *Guest) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tap.Close() // ends receive; the keeper sees to the rest
}

// Lease is what the guest got, or was configured with.
func (g *Guest) Lease() Lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease
}

// Configure gives the guest its address without DHCP.
func (g *Guest) Configure(l Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease = l
}

// receive answers what every guest answers, and hands frames to those who wait.
func (g *Guest) receive() {
	b := make([]byte, 1<<16)
	for {
		n, err := g.tap.Read(b)
		if err != nil {
			return // closed
		}
		frame := append([]byte{}, b[:n]...)
		g.dispatch(frame)
		if answer := g.answer(frame); answer != nil {
			g.send(answer) //nolint:errcheck // whoever asked asks again
		}
	}
}

func (g *Guest) dispatch(frame []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.waits {
		if w.match(frame) {
			select {
			case w.got <- frame:
			default: // it has its answer
			}
		}
	}
}

func (g *Guest) send(frame []byte) error {
	if _, err := g.tap.Write(frame); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// ErrSilence is wrapped by the errors about what got no answer.
var ErrSilence = errors.New("no answer")

// ask sends the frames, again after each interval, until one comes back that
// matches. It returns ErrSilence when the time is over.
func (g *Guest) ask(ctx context.Context, within, again time.Duration, match func([]byte) bool, frames ...[]byte) ([]byte, error) {
	w := &wait{match: match, got: make(chan []byte, 1)}
	g.mu.Lock()
	g.waits[w] = struct{}{}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.waits, w)
		g.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		for _, f := range frames {
			if err := g.send(f); err != nil {
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

// answer is what a guest's kernel sends back by itself: ARP and ping replies.
func (g *Guest) answer(frame []byte) []byte {
	own := g.Lease().Address
	if a, ok := parseARP(frame); ok && a.op == arpRequest && a.target == own && own.IsValid() {
		return arp{op: arpReply, senderMAC: g.MAC, sender: own, targetMAC: a.senderMAC, target: a.sender}.frame()
	}
	p, ok := packet.ParseIP(frame)
	if !ok || p.Dst != own || p.Protocol != protoICMP {
		return nil
	}
	return echoReply(p)
}
