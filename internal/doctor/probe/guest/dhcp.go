package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// Ports of DHCP.
const (
	dhcpServer = 67
	dhcpClient = 68
)

// LimitedBroadcast is where a client without an address sends its messages.
var LimitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// DHCP takes a lease as the client of a guest does, from DISCOVER to ACK (RFC 2131),
// and configures the guest with it. It waits that long for each reply. An error names
// the missing reply, and wraps ErrSilence if nothing came in its place.
func (g *Guest) DHCP(ctx context.Context, within time.Duration) (Lease, error) {
	discover, err := dhcpv4.NewDiscovery(g.MAC, dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU))
	if err != nil {
		return Lease{}, fmt.Errorf("make DISCOVER: %w", err)
	}
	offer, err := g.exchangeDHCP(ctx, within, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Lease{}, fmt.Errorf("no OFFER: %w", err)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		return Lease{}, fmt.Errorf("make REQUEST: %w", err)
	}
	ack, err := g.exchangeDHCP(ctx, within, request, dhcpv4.MessageTypeAck)
	if err != nil {
		return Lease{}, fmt.Errorf("no ACK: %w", err)
	}
	l := leaseOf(ack)
	g.Configure(l)
	return l, nil
}

// Release gives a lease back to its server (RFC 2131, section 4.4.6).
func (g *Guest) Release(ctx context.Context) error {
	l := g.Lease()
	if !l.Server.IsValid() {
		return nil
	}
	mac, err := g.Neighbor(ctx, l.Server)
	if err != nil {
		mac = packet.Broadcast // the server is behind a relay
	}
	m, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease), dhcpv4.WithHwAddr(g.MAC),
		dhcpv4.WithClientIP(l.Address.AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice())))
	if err != nil {
		return fmt.Errorf("make RELEASE: %w", err)
	}
	g.Configure(Lease{})
	return g.Send(packet.Datagram{
		SrcMAC: g.MAC, DstMAC: mac, Src: l.Address, Dst: l.Server, SrcPort: dhcpClient, DstPort: dhcpServer, Payload: m.ToBytes(),
	}.Frame())
}

// errNAK says that the server refuses the address that it offered.
var errNAK = errors.New("the server refuses (NAK)")

// exchangeDHCP sends a message and returns the reply of the type want.
func (g *Guest) exchangeDHCP(ctx context.Context, within time.Duration, m *dhcpv4.DHCPv4, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	parse := func(frame []byte) *dhcpv4.DHCPv4 {
		d, ok := packet.ParseDatagram(frame)
		if !ok || d.SrcPort != dhcpServer || d.DstPort != dhcpClient {
			return nil
		}
		a, err := dhcpv4.FromBytes(d.Payload)
		if err != nil || a.TransactionID != m.TransactionID || a.ClientHWAddr.String() != g.MAC.String() {
			return nil
		}
		return a
	}
	frame, err := g.ask(ctx, within, within/4, func(frame []byte) bool {
		a := parse(frame)
		return a != nil && (a.MessageType() == want || a.MessageType() == dhcpv4.MessageTypeNak)
	}, packet.Datagram{
		SrcMAC: g.MAC, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: LimitedBroadcast,
		SrcPort: dhcpClient, DstPort: dhcpServer, Payload: m.ToBytes(),
	}.Frame())
	if errors.Is(err, ErrSilence) {
		err = &Silence{Flow{netip.IPv4Unspecified(), LimitedBroadcast, UDP, dhcpClient, dhcpServer}, err}
	}
	if err != nil {
		return nil, err
	}
	reply := parse(frame)
	if reply.MessageType() != want {
		return nil, errNAK
	}
	return reply, nil
}

func leaseOf(ack *dhcpv4.DHCPv4) Lease {
	addr := func(b []byte) netip.Addr {
		a, _ := netip.AddrFromSlice(b)
		return a.Unmap()
	}
	bits, _ := ack.SubnetMask().Size()
	l := Lease{Address: addr(ack.YourIPAddr), Server: addr(ack.ServerIdentifier()), MTU: host.DefaultMTU}
	l.Prefix = netip.PrefixFrom(l.Address, bits).Masked()
	if routers := ack.Router(); len(routers) > 0 {
		l.Gateway = addr(routers[0])
	}
	if servers := ack.DNS(); len(servers) > 0 {
		l.Resolver = addr(servers[0])
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 {
		l.MTU = int(binary.BigEndian.Uint16(mtu))
	}
	return l
}
