package hostlease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

// discoverInterval is the time between two DISCOVER messages.
const discoverInterval = time.Second

// Offers reports whether a DHCP server offers an address to the MAC. It asks once a
// second until ctx ends, and takes no offer: the server forgets it. It needs CAP_NET_RAW.
func Offers(ctx context.Context, l neigh.Link, mac net.HardwareAddr) (bool, error) {
	m, err := discover(mac)
	if err != nil {
		return false, fmt.Errorf("ask for an offer: %w", err)
	}
	in, err := packet.Listen(l.Listen, packet.All, nil)
	if err != nil {
		return false, fmt.Errorf("ask for an offer: %w", err)
	}
	defer in.Close() //nolint:errcheck // nothing follows from it
	out, err := packet.Listen(l.Send, packet.None, nil)
	if err != nil {
		return false, fmt.Errorf("ask for an offer: %w", err)
	}
	defer out.Close() //nolint:errcheck // nothing follows from it
	return offered(ctx, in, out.Write, m)
}

func discover(mac net.HardwareAddr) (*dhcpv4.DHCPv4, error) {
	// The broadcast flag, because a switch or a bridge may not know the way to the MAC yet.
	return dhcpv4.NewDiscovery(mac, dhcpv4.WithBroadcast(true))
}

// offered sends a DISCOVER until it hears an offer.
func offered(ctx context.Context, in packet.Reader, send func([]byte) error, m *dhcpv4.DHCPv4) (bool, error) {
	frame := packet.Datagram{
		SrcMAC: m.ClientHWAddr, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: broadcast,
		SrcPort: clientPort, DstPort: serverPort, Payload: m.ToBytes(),
	}.Frame()
	ask := func() error {
		if err := send(frame); !errors.Is(err, unix.ENETDOWN) { // the link may come up
			return err
		}
		return nil
	}
	err := packet.Exchange(ctx, in, discoverInterval, ask, func(b []byte, _ bool) bool { return isOffer(b, m) })
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, nil //nolint:nilerr // no server has offered an address in time
	}
	return false, fmt.Errorf("ask for an offer: %w", err)
}

// isOffer reports whether a frame is a server's offer in answer to the message.
func isOffer(b []byte, m *dhcpv4.DHCPv4) bool {
	d, ok := packet.ParseDatagram(b)
	if !ok || d.SrcPort != serverPort || d.DstPort != clientPort {
		return false
	}
	o, err := dhcpv4.FromBytes(d.Payload)
	return err == nil && o.TransactionID == m.TransactionID && o.MessageType() == dhcpv4.MessageTypeOffer && slices.Equal(o.ClientHWAddr, m.ClientHWAddr)
}
