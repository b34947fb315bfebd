package hostlease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

var (
	// ErrRefused is wrapped by the error of a server that does not renew the lease (DHCPNAK).
	ErrRefused = errors.New("the DHCP server refuses")
	// ErrSilent is wrapped by the error of a lease for which no server answers in time.
	ErrSilent = errors.New("no DHCP server answers")
)

// Terms are what a server grants.
type Terms struct {
	Server netip.Addr
	Lasts  time.Duration // from the request on
	Renew  time.Duration // T1, from the request on
	Rebind time.Duration // T2, when the client may ask any server
}

// Renew asks once for more time, by the link with that index. It asks the server that
// gave the lease; or all servers, if toAll is set or the server is not known. It waits
// for the answer until ctx ends, and returns errors that wrap ErrRefused or ErrSilent.
// It needs CAP_NET_RAW.
func Renew(ctx context.Context, link int, l managers.HostLease, toAll bool) (Terms, error) {
	terms, err := renew(ctx, link, l, toAll || !l.Server.IsValid())
	if err != nil {
		return Terms{}, fmt.Errorf("renew lease of %s: %w", l.Address, err)
	}
	return terms, nil
}

func renew(ctx context.Context, link int, l managers.HostLease, toAll bool) (Terms, error) {
	conn, err := packet.Listen(link, packet.IPv4, packet.UDPTo(clientPort))
	if err != nil {
		return Terms{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing follows from it
	m, err := request(l)
	if err != nil {
		return Terms{}, err
	}
	send := func(d packet.Datagram) error { return conn.Write(d.Frame()) }
	if !toAll {
		send = func(d packet.Datagram) error {
			d.Dst = l.Server
			return sendTo(d)
		}
	}
	return converse(ctx, conn, send, l, m)
}

// converse sends the request and waits for an agreement. A refusal counts only if no
// server agrees: a server that knows nothing of the lease may refuse.
func converse(ctx context.Context, in packet.Reader, send func(packet.Datagram) error, l managers.HostLease, m *dhcpv4.DHCPv4) (Terms, error) {
	d := packet.Datagram{
		SrcMAC: l.MAC, DstMAC: packet.Broadcast, Src: l.Address, Dst: broadcast, SrcPort: clientPort, DstPort: serverPort, Payload: m.ToBytes(),
	}
	end := ErrSilent
	var ack *dhcpv4.DHCPv4
	err := packet.Exchange(ctx, in, 0, func() error { return send(d) }, func(frame []byte, out bool) bool {
		r, ok := parseReply(frame, m)
		switch {
		case !ok || out:
		case r.MessageType() == dhcpv4.MessageTypeAck:
			ack = r
		default:
			end = fmt.Errorf("%w: %s", ErrRefused, r.Message())
		}
		return ack != nil
	})
	switch {
	case err == nil:
		return terms(ack)
	case ctx.Err() != nil:
		return Terms{}, end
	}
	return Terms{}, err
}

// request returns the message of the states RENEWING and REBINDING (RFC 2131, table 5).
// The client has the address, so the message neither asks for one nor chooses a server.
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

// sendTo sends the datagram where the host's routes lead to its destination. A UDP
// socket could not: the client on the port has its number.
func sendTo(d packet.Datagram) error {
	// IPPROTO_RAW: the IP header is ours (raw(7)).
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing follows from it
	if err := unix.Sendto(fd, d.Frame()[packet.EtherLen:], 0, &unix.SockaddrInet4{Addr: d.Dst.As4()}); err != nil {
		return fmt.Errorf("send to %s: %w", d.Dst, err)
	}
	return nil
}

// parseReply reads an ACK or NAK of the request.
func parseReply(frame []byte, request *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
	d, ok := packet.ParseDatagram(frame)
	if !ok || d.DstPort != clientPort {
		return nil, false
	}
	m, err := dhcpv4.FromBytes(d.Payload)
	if err != nil || m.TransactionID != request.TransactionID || m.ClientHWAddr.String() != request.ClientHWAddr.String() {
		return nil, false
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeAck:
		return m, m.YourIPAddr.Equal(request.ClientIPAddr)
	case dhcpv4.MessageTypeNak:
		return m, true
	}
	return nil, false
}

// terms reads what the server grants. T1 and T2 are a half and 7/8 of the time, unless
// the server names them (RFC 2131, 4.4.5).
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
