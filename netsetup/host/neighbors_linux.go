package host

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

const (
	askAgain = 200 * time.Millisecond
	// firstAsk is how long neighbours are asked before a move.
	firstAsk = time.Second
)

// answers passes ARP and neighbour advertisements.
var answers = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.ARP, SkipTrue: 5},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packet.IPv6, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 20, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 58, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 54, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// askNeighbors asks the gateways by the link which of them answer, and peer where it is
// a neighbor. It notes peer only if the session comes in by this link.
func (f *Facts) askNeighbors(ctx context.Context, up Link, peer netip.Addr) error {
	if !f.NIC.Held.Carries() {
		return nil // nothing moves, so nothing has to answer afterwards
	}
	want := f.NIC.Askable()
	if peer.IsValid() && !peer.IsLoopback() {
		routes, err := netlink.RouteGet(peer.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].LinkIndex == up.Index {
			f.NIC.Peer = peer
			if routes[0].Gw == nil {
				want = append(want, Neighbor{Addr: peer})
			}
		}
	}
	f.NIC.Asked = true
	if len(want) == 0 {
		return nil
	}
	var err error
	f.NIC.Answers, err = Ask(ctx, up, want, firstAsk)
	return err
}

func Ask(ctx context.Context, l Link, want []Neighbor, within time.Duration) ([]Neighbor, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.Addresses(l.Index)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(l.Index, packet.All, answers)
	if err != nil {
		return nil, fmt.Errorf("ask on %q: %w", l.Name, err)
	}
	defer conn.Close() //nolint:errcheck // nothing follows from it
	heard := make(chan Neighbor, 64)
	go hear(conn, heard)
	again := time.NewTicker(askAgain)
	defer again.Stop()
	var got []Neighbor
	for end := time.After(within); ; {
		for _, w := range Unanswered(want, got) {
			conn.Write(question(l.MAC, nearest(addrs, w.Addr), w.Addr)) //nolint:errcheck // asked again
		}
		select {
		case a := <-heard:
			if len(Unanswered([]Neighbor{a}, got)) > 0 {
				got = append(got, a)
			}
			if len(Unanswered(want, got)) == 0 {
				return got, nil
			}
		case <-again.C:
		case <-end:
			return got, nil
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

// hear passes on what neighbours answer, until the socket is closed.
func hear(conn *packet.Conn, heard chan<- Neighbor) {
	b := make([]byte, 2048)
	for {
		n, out, err := conn.Read(b)
		if err != nil {
			return
		}
		if addr, mac, ok := packet.Neighbour(b[:n]); ok && !out {
			select {
			case heard <- Neighbor{addr, bytes.Clone(mac)}:
			default: // more than anybody asked for
			}
		}
	}
}

func question(mac net.HardwareAddr, src, target netip.Addr) []byte {
	if target.Is4() {
		return packet.ARPRequest(mac, src, target)
	}
	if !src.IsValid() {
		src = netip.IPv6Unspecified()
	}
	return packet.NeighbourSolicitation(mac, src, target)
}
