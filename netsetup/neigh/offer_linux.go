package neigh

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/packet"
)

const (
	dhcpServer = 67
	dhcpClient = 68
)

// Offers reports whether a DHCP server offers an address to the MAC, asked once a
// second until the context ends. It takes none: the server forgets its offer. It
// needs CAP_NET_RAW.
func Offers(ctx context.Context, l Link, mac net.HardwareAddr) (bool, error) {
	// To all, because a switch or a bridge may not know the way to the MAC yet.
	m, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithBroadcast(true))
	if err != nil {
		return false, fmt.Errorf("make DISCOVER: %w", err)
	}
	frame := packet.Datagram{
		SrcMAC: mac, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		SrcPort: dhcpClient, DstPort: dhcpServer, Payload: m.ToBytes(),
	}.Frame()
	answer, err := ask(ctx, l, frame, func(b []byte) net.HardwareAddr { return offered(b, m) })
	return answer != nil, err
}

// offered is the server's MAC, if the frame is its offer.
func offered(b []byte, m *dhcpv4.DHCPv4) net.HardwareAddr {
	d, ok := packet.ParseDatagram(b)
	if !ok || d.SrcPort != dhcpServer || d.DstPort != dhcpClient {
		return nil
	}
	o, err := dhcpv4.FromBytes(d.Payload)
	if err != nil || o.TransactionID != m.TransactionID || o.MessageType() != dhcpv4.MessageTypeOffer || !slices.Equal(o.ClientHWAddr, m.ClientHWAddr) {
		return nil
	}
	return slices.Clone(d.SrcMAC)
}
