package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/dhcp6"
	"github.com/qnet-vm/qnet/netsetup/ra"
)

// Types of ICMPv6 messages (RFC 4443, RFC 4861).
const (
	echoRequest6    = 128
	echoReply6      = 129
	solicitation6   = 135
	advertisement6  = 136
	ndHopLimit      = 255
	solicitedAnswer = 0x60 // flags of an advertisement: solicited, override
)

// LinkLocal is the guest's link-local address, that of its MAC.
func (g *Guest) LinkLocal() netip.Addr { return packet.EUI64(packet.LinkLocal, g.MAC) }

// Router asks for the network's router, as a guest does whose link comes up.
func (g *Guest) Router(ctx context.Context, within time.Duration) (ra.Advertised, error) {
	frame, err := g.ask(ctx, within, within/4, func(b []byte) bool {
		_, ok := ra.Parse(b)
		return ok
	}, packet.RouterSolicitation(g.MAC, g.LinkLocal()))
	if err != nil {
		return ra.Advertised{}, err
	}
	a, _ := ra.Parse(frame)
	return a, nil
}

// DHCPv6 takes the address that the network's server gives, and uses it from now on.
func (g *Guest) DHCPv6(ctx context.Context, within time.Duration) (dhcp6.Given, error) {
	id := g.NextID()
	xid := [3]byte{1, byte(id >> 8), byte(id)}
	frame, err := g.ask(ctx, within, within/4, func(b []byte) bool {
		_, ok := dhcp6.ParseGiven(b, xid)
		return ok
	}, dhcp6.Ask(g.MAC, xid))
	if err != nil {
		return dhcp6.Given{}, err
	}
	given, _ := dhcp6.ParseGiven(frame, xid)
	g.Use6(given.Address)
	return given, nil
}

// Use6 gives the guest an IPv6 address, which its neighbours then reach.
func (g *Guest) Use6(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.address6 = a
}

func (g *Guest) own6() netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.address6
}

// neighbor6 asks for the MAC of an address of the network.
func (g *Guest) neighbor6(ctx context.Context, a netip.Addr, within time.Duration) (net.HardwareAddr, error) {
	frame, err := g.ask(ctx, within, againTime, func(b []byte) bool {
		from, _, ok := packet.Neighbour(b)
		return ok && from == a
	}, packet.NeighbourSolicitation(g.MAC, g.own6(), a))
	if err != nil {
		return nil, fmt.Errorf("who has %s: %w", a, err)
	}
	_, mac, _ := packet.Neighbour(frame)
	return bytes.Clone(mac), nil
}

// Ping6 sends an echo request to an address of the network, and returns the time to its reply.
func (g *Guest) Ping6(ctx context.Context, a netip.Addr, within time.Duration) (time.Duration, error) {
	mac, err := g.neighbor6(ctx, a, within)
	if err != nil {
		return 0, err
	}
	id := g.NextID()
	message := binary.BigEndian.AppendUint16([]byte{echoRequest6, 0, 0, 0}, id)
	p := packet.IPv6Packet{
		SrcMAC: g.MAC, DstMAC: mac, Src: g.own6(), Dst: a, Protocol: unix.IPPROTO_ICMPV6, HopLimit: 64, Payload: append(message, make([]byte, 34)...),
	}
	begin := time.Now()
	_, err = g.ask(ctx, within, againTime, func(b []byte) bool {
		got, ok := packet.ParseIPv6(b)
		return ok && got.Src == a && len(got.Payload) >= 8 && got.Payload[0] == echoReply6 && binary.BigEndian.Uint16(got.Payload[4:]) == id
	}, p.Frame())
	if err != nil {
		err = fmt.Errorf("ping to %s: %w", a, err)
	}
	return time.Since(begin), err
}

// Resolve6 asks a name server of the network for the IPv6 addresses of a name.
func (g *Guest) Resolve6(ctx context.Context, server netip.Addr, name string, within time.Duration) ([]netip.Addr, error) {
	mac, err := g.neighbor6(ctx, server, within)
	if err != nil {
		return nil, err
	}
	id := g.NextID()
	query, err := question(id, name, dnsmessage.TypeAAAA)
	if err != nil {
		return nil, err
	}
	d := packet.Datagram{SrcMAC: g.MAC, DstMAC: mac, Src: g.own6(), Dst: server, SrcPort: 32768 + id&0x3fff, DstPort: 53, Payload: query}
	frame, err := g.ask(ctx, within, againTime, func(b []byte) bool {
		got, ok := packet.ParseDatagramIPv6(b)
		return ok && got.Src == server && got.SrcPort == d.DstPort && got.DstPort == d.SrcPort
	}, d.FrameIPv6())
	if err != nil {
		return nil, fmt.Errorf("udp to [%s]:53: %w", server, err)
	}
	got, _ := packet.ParseDatagramIPv6(frame)
	return addressesIn(got.Payload)
}

// reply6 is what the kernel of a guest sends by itself: answers to its neighbours' questions who
// has its address.
func (g *Guest) reply6(frame []byte) []byte {
	p, ok := packet.ParseIPv6(frame)
	if !ok || p.Protocol != unix.IPPROTO_ICMPV6 || p.HopLimit != ndHopLimit || len(p.Payload) < 24 || p.Payload[0] != solicitation6 || p.Src.IsUnspecified() {
		return nil
	}
	target := netip.AddrFrom16([16]byte(p.Payload[8:24]))
	if target != g.LinkLocal() && target != g.own6() {
		return nil
	}
	message := slices.Concat([]byte{advertisement6, 0, 0, 0, solicitedAnswer, 0, 0, 0}, target.AsSlice(), []byte{2, 1}, g.MAC)
	return packet.IPv6Packet{
		SrcMAC: g.MAC, DstMAC: p.SrcMAC, Src: target, Dst: p.Src, Protocol: unix.IPPROTO_ICMPV6, HopLimit: ndHopLimit, Payload: message,
	}.Frame()
}
