package hostlease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

const (
	serverPort = 67
	clientPort = 68
)

var (
	// ErrRefused tells that the server does not renew the lease (DHCPNAK).
	ErrRefused = errors.New("the DHCP server refuses")
	// ErrSilent tells that no server has answered in time.
	ErrSilent = errors.New("no DHCP server answers")
)

// Terms are what a server grants.
type Terms struct {
	Server netip.Addr
	Lasts  time.Duration // from the request on
	Renew  time.Duration // T1
	Rebind time.Duration // T2, when any server may be asked
}

// Renew asks once for more time, by the link with that index: the server that
// gave the lease, or any where broadcast is set or the server is not known. It
// waits for the answer until the context ends and returns ErrRefused or
// ErrSilent. It needs CAP_NET_RAW.
func Renew(ctx context.Context, link int, l managers.HostLease, broadcast bool) (Terms, error) {
	conn, err := packet.Listen(link, packet.IPv4, packet.UDPTo(clientPort))
	if err != nil {
		return Terms{}, fmt.Errorf("renew lease of %s: %w", l.Address, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // it ends hear
	defer conn.Close()                                      //nolint:errcheck // nothing follows from it
	defer stop()
	ask, err := request(l)
	if err == nil {
		err = send(conn, l, ask, broadcast || !l.Server.IsValid())
	}
	if err != nil {
		return Terms{}, fmt.Errorf("renew lease of %s: %w", l.Address, err)
	}
	terms, err := hear(conn, ask)
	if err != nil {
		return Terms{}, fmt.Errorf("renew lease of %s: %w", l.Address, err)
	}
	return terms, nil
}

// request is the message of the states RENEWING and REBINDING (RFC 2131, table 5):
// the address is the client's, so neither asked for nor is a server chosen.
func request(l managers.HostLease) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.New(
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(l.MAC), dhcpv4.WithClientIP(l.Address.AsSlice()),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer))
	if err != nil {
		return nil, err
	}
	if l.ClientID != nil {
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, l.ClientID))
	}
	if l.Host != "" {
		m.UpdateOption(dhcpv4.OptHostName(l.Host))
	}
	return m, nil
}

// send sends it: to all on the link, or where the host's routes lead to the server.
// A socket of the port would be refused where a deaf client has it.
func send(conn *packet.Conn, l managers.HostLease, m *dhcpv4.DHCPv4, broadcast bool) error {
	d := packet.Datagram{
		SrcMAC: l.MAC, DstMAC: packet.Broadcast, Src: l.Address, Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		SrcPort: clientPort, DstPort: serverPort, Payload: m.ToBytes(),
	}
	if broadcast {
		return conn.Write(d.Frame())
	}
	d.Dst = l.Server
	// IPPROTO_RAW: the header is ours (raw(7)).
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing follows from it
	if err := unix.Sendto(fd, d.Frame()[packet.EtherLen:], 0, &unix.SockaddrInet4{Addr: l.Server.As4()}); err != nil {
		return fmt.Errorf("send to %s: %w", l.Server, err)
	}
	return nil
}

// hear waits for an agreement. A refusal counts only if nobody agrees: where all
// are asked, a server that knows nothing of the lease may refuse.
func hear(conn *packet.Conn, ask *dhcpv4.DHCPv4) (Terms, error) {
	end := ErrSilent
	b := make([]byte, 4096)
	for {
		n, out, err := conn.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return Terms{}, end
		}
		if errors.Is(err, unix.ENETDOWN) || out {
			continue
		}
		if err != nil {
			return Terms{}, err
		}
		m, ok := answer(b[:n], ask)
		if !ok {
			continue
		}
		if m.MessageType() == dhcpv4.MessageTypeAck {
			return terms(m)
		}
		end = fmt.Errorf("%w: %s", ErrRefused, m.Message())
	}
}

// answer reads an ACK or NAK to what was asked.
func answer(frame []byte, ask *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
	d, ok := packet.ParseDatagram(frame)
	if !ok || d.DstPort != clientPort {
		return nil, false
	}
	m, err := dhcpv4.FromBytes(d.Payload)
	if err != nil || m.TransactionID != ask.TransactionID || m.ClientHWAddr.String() != ask.ClientHWAddr.String() {
		return nil, false
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeAck:
		return m, m.YourIPAddr.Equal(ask.ClientIPAddr)
	case dhcpv4.MessageTypeNak:
		return m, true
	}
	return nil, false
}

// terms reads what the server grants; where it names no T1 and T2, they are a
// half and 7/8 of the time (RFC 2131, 4.4.5).
func terms(m *dhcpv4.DHCPv4) (Terms, error) {
	t := Terms{Lasts: m.IPAddressLeaseTime(0)}
	if t.Lasts <= 0 {
		return t, fmt.Errorf("the DHCP server grants no time")
	}
	t.Server, _ = netip.AddrFromSlice(m.ServerIdentifier())
	t.Server = t.Server.Unmap()
	t.Renew, t.Rebind = m.IPAddressRenewalTime(t.Lasts/2), m.IPAddressRebindingTime(t.Lasts*7/8)
	if t.Rebind <= 0 || t.Rebind > t.Lasts {
		t.Rebind = t.Lasts * 7 / 8
	}
	if t.Renew <= 0 || t.Renew > t.Rebind {
		t.Renew = min(t.Lasts/2, t.Rebind)
	}
	return t, nil
}
