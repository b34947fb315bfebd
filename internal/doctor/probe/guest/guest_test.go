package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

var (
	guestMAC = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	hostMAC  = net.HardwareAddr{0x52, 0x54, 0, 9, 9, 9}
	gateway  = netip.MustParseAddr("192.168.223.1")
	address  = netip.MustParseAddr("192.168.223.5")
	outside  = netip.MustParseAddrPort("203.0.113.1:80")
)

// configured is the lease that fakeNetwork gives.
var configured = Lease{
	Address: address, Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: gateway, Resolver: gateway, Server: gateway, MTU: 1400,
}

// fakeNetwork is the other end of a guest's tap: it replies as a host with a network
// does. A reply of nil is none.
type fakeNetwork struct {
	*testing.T
	tap   *os.File
	reply func(p packet.IP) [][]byte // to a packet that nothing else replies to
}

// connect makes a guest whose tap is a socket.
func connect(t *testing.T, reply func(p packet.IP) [][]byte) (*Guest, *fakeNetwork) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(guestMAC, "qnweb0", os.NewFile(uintptr(fds[0]), "guest"))
	n := &fakeNetwork{T: t, tap: os.NewFile(uintptr(fds[1]), "network"), reply: reply}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve()
	}()
	t.Cleanup(func() {
		g.close()
		n.tap.Close()
		<-done
	})
	return g, n
}

func (n *fakeNetwork) serve() {
	b := make([]byte, 1<<16)
	for {
		size, err := n.tap.Read(b)
		if err != nil {
			return
		}
		frame := b[vnetHeader:size]
		if a, ok := parseARP(frame); ok {
			if a.op == arpRequest && a.target == gateway {
				n.send(arp{op: arpReply, senderMAC: hostMAC, sender: gateway, targetMAC: a.senderMAC, target: a.sender}.frame())
			}
			continue
		}
		if d, ok := packet.ParseDatagram(frame); ok && d.DstPort == dhcpServer {
			n.dhcp(d)
			continue
		}
		if p, ok := packet.ParseIP(frame); ok && n.reply != nil {
			for _, frame := range n.reply(p) {
				n.send(frame)
			}
		}
	}
}

func (n *fakeNetwork) send(frame []byte) {
	n.tap.Write(append(make([]byte, vnetHeader), frame...))
}

// dhcp offers and acknowledges the address.
func (n *fakeNetwork) dhcp(d packet.Datagram) {
	m, err := dhcpv4.FromBytes(d.Payload)
	if err != nil {
		n.Errorf("a DHCP message that cannot be read: %v", err)
		return
	}
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(address.AsSlice()),
		dhcpv4.WithServerIP(gateway.AsSlice()), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(gateway.AsSlice()), dhcpv4.WithDNS(gateway.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.AsSlice())), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, 1400)))
	if err != nil {
		n.Errorf("make a reply: %v", err)
		return
	}
	n.send(packet.Datagram{
		SrcMAC: hostMAC, DstMAC: d.SrcMAC, Src: gateway, Dst: LimitedBroadcast, SrcPort: dhcpServer, DstPort: dhcpClient, Payload: reply.ToBytes(),
	}.Frame())
}

// back is the frame of a packet in the other direction.
func back(p packet.IP, protocol byte, payload []byte) []byte {
	return packet.IP{SrcMAC: hostMAC, DstMAC: p.SrcMAC, Src: p.Dst, Dst: p.Src, Protocol: protocol, Payload: payload}.Frame()
}

// within is longer than a reply takes on a busy machine; short is for silence.
const (
	within = 10 * time.Second
	short  = 50 * time.Millisecond
)

// A guest takes its lease from DISCOVER to ACK.
func TestDHCP(t *testing.T) {
	g, _ := connect(t, nil)
	lease, err := g.DHCP(t.Context(), within)
	if err != nil || lease != configured || g.Lease() != configured || g.MTU() != 1400 {
		t.Errorf("got %+v, %v", lease, err)
	}
	if err := g.Release(t.Context()); err != nil || g.Lease().Address.IsValid() {
		t.Errorf("after the release: %+v, %v", g.Lease(), err)
	}
	if err := g.Release(t.Context()); err != nil { // there is none any more
		t.Error(err)
	}
}

// What a guest sends and gets no reply to is a Silence that names the flow.
func TestSilence(t *testing.T) {
	g, _ := connect(t, nil)
	g.Configure(configured)
	var silence *Silence
	if _, err := g.Ping(t.Context(), gateway, 84, short); !errors.As(err, &silence) || !errors.Is(err, ErrSilence) {
		t.Errorf("ping: %v", err)
	} else if text := silence.Flow.String(); text != "ping to 192.168.223.1" {
		t.Errorf("ping: %s", text)
	}
	if _, err := g.Connect(t.Context(), outside, short); !errors.As(err, &silence) || silence.Flow.String() != "tcp to 203.0.113.1:80" {
		t.Errorf("connect: %v", err)
	}
	if _, err := g.Resolve(t.Context(), "example.com", short); !errors.As(err, &silence) || silence.Flow.String() != "udp to 192.168.223.1:53" {
		t.Errorf("resolve: %v", err)
	}
	if _, err := g.WhoHas(t.Context(), address.Next(), short); !errors.Is(err, ErrSilence) {
		t.Errorf("ARP: %v", err)
	}
	if got := g.Passes(t.Context(), gateway, 577); got != 0 {
		t.Errorf("%d bytes pass", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.WhoHas(ctx, address.Next(), within); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// Without a route a guest sends nothing.
func TestNoRoute(t *testing.T) {
	g, _ := connect(t, nil)
	l := configured
	l.Gateway = netip.Addr{}
	g.Configure(l)
	if _, err := g.Ping(t.Context(), outside.Addr(), 84, within); err == nil || errors.Is(err, ErrSilence) {
		t.Errorf("got %v", err)
	}
}

// pong replies to echo requests of at most limit bytes.
func pong(limit int) func(packet.IP) [][]byte {
	return func(p packet.IP) [][]byte {
		if p.Protocol != ICMP || len(p.Payload)+20 > limit {
			return nil
		}
		return [][]byte{echoReply(p)}
	}
}

// An echo request gets its own reply, and the largest packet that passes is found.
func TestPing(t *testing.T) {
	g, _ := connect(t, pong(1400))
	g.Configure(configured)
	if took, err := g.Ping(t.Context(), gateway, 1400, within); err != nil || took <= 0 {
		t.Errorf("got %s, %v", took, err)
	}
	if got := g.Passes(t.Context(), gateway, 1500); got != 1400 {
		t.Errorf("%d bytes pass", got)
	}
}

// An ICMP error in place of a reply is returned with the flow of its request.
func TestICMPError(t *testing.T) {
	g, _ := connect(t, func(p packet.IP) [][]byte {
		quoted := p.Frame()[packet.EtherLen:]
		return [][]byte{
			back(p, ICMP, append([]byte{3, 4, 0, 0, 0, 0, 5, 0x14}, "quoted wrongly"...)),
			back(p, ICMP, append([]byte{3, 4, 0, 0, 0, 0, 5, 0x14}, quoted[:28]...)),
		}
	})
	g.Configure(configured)
	_, err := g.Ping(t.Context(), outside.Addr(), 1400, within)
	var e *ICMPError
	if !errors.As(err, &e) || e.MTU != 1300 || e.Flow.Dst != outside.Addr() || e.Error() != "203.0.113.1 says: fragmentation needed, mtu 1300" {
		t.Errorf("got %v", err)
	}
	for want, e := range map[string]ICMPError{
		"192.168.223.1 says: host administratively prohibited": {From: gateway, Type: 3, Code: 10},
		"192.168.223.1 says: time to live exceeded":            {From: gateway, Type: 11},
		"192.168.223.1 says: ICMP type 12 code 1":              {From: gateway, Type: 12, Code: 1},
	} {
		if e.Error() != want {
			t.Errorf("got %s, want %s", e.Error(), want)
		}
	}
}

// A SYN is answered by a SYN ACK with the peer's MSS, which the guest resets, or by a RST.
func TestConnect(t *testing.T) {
	reset := make(chan segment, 1)
	flags := byte(tcpSYN | tcpACK)
	g, _ := connect(t, func(p packet.IP) [][]byte {
		s, ok := parseSegment(p)
		switch {
		case !ok:
			return nil
		case s.flags&tcpRST != 0:
			reset <- s
			return nil
		}
		reply := segment{from: s.to, to: s.from, seq: 100, ack: s.seq + 1, flags: flags, maxLength: 1360}
		answer := packet.IP{SrcMAC: hostMAC, DstMAC: p.SrcMAC, Src: p.Dst, Dst: p.Src}
		return [][]byte{reply.packet(answer).Frame()}
	})
	g.Configure(configured)
	c, err := g.Connect(t.Context(), outside, within)
	if err != nil || c.Refused || c.MSS != 1360 || c.Flow.Port != 80 {
		t.Errorf("got %+v, %v", c, err)
	}
	if s := <-reset; s.ack != 101 || s.to != 80 {
		t.Errorf("reset with %+v", s)
	}
	flags = tcpRST
	if c, err := g.Connect(t.Context(), outside, within); err != nil || !c.Refused {
		t.Errorf("got %+v, %v", c, err)
	}
}

// A name has addresses, or the reply says why not.
func TestResolve(t *testing.T) {
	code := dnsmessage.RCodeSuccess
	answers := []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example.com."), Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.AResource{A: [4]byte{198, 51, 100, 7}},
	}}
	g, _ := connect(t, func(p packet.IP) [][]byte {
		var m dnsmessage.Message
		if p.Protocol != UDP || m.Unpack(p.Payload[8:]) != nil {
			return nil
		}
		m.Response, m.RCode, m.Answers = true, code, answers
		b, err := m.Pack()
		if err != nil {
			t.Errorf("make a reply: %v", err)
			return nil
		}
		f := FlowOf(p)
		return [][]byte{packet.Datagram{SrcMAC: hostMAC, DstMAC: p.SrcMAC, Src: p.Dst, Dst: p.Src, SrcPort: f.Port, DstPort: f.ID, Payload: b}.Frame()}
	})
	g.Configure(configured)
	got, err := g.Resolve(t.Context(), "example.com", within)
	if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr("198.51.100.7")}) {
		t.Errorf("got %v, %v", got, err)
	}
	answers = nil
	for c, want := range map[dnsmessage.RCode]string{
		dnsmessage.RCodeSuccess: "the name has no address", dnsmessage.RCodeNameError: "the name server answers NXDOMAIN",
	} {
		code = c
		var e AnswerError
		if _, err := g.Resolve(t.Context(), "example.com", within); !errors.As(err, &e) || e.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := g.Resolve(t.Context(), "two..dots", within); err == nil {
		t.Error("an impossible name was asked for")
	}
}

// A guest replies to ARP and ping as its kernel would.
func TestReplies(t *testing.T) {
	g, _ := connect(t, nil)
	g.Configure(configured)
	request := arp{op: arpRequest, senderMAC: hostMAC, sender: gateway, target: address}.frame()
	if a, ok := parseARP(g.reply(request)); !ok || a.op != arpReply || a.sender != address || a.senderMAC.String() != guestMAC.String() {
		t.Errorf("ARP: %+v", a)
	}
	ping := packet.IP{SrcMAC: hostMAC, DstMAC: guestMAC, Src: gateway, Dst: address, Protocol: ICMP, Payload: EchoRequest(7, 1, 56)}
	if p, ok := packet.ParseIP(g.reply(ping.Frame())); !ok || p.Src != address || p.Payload[0] != 0 {
		t.Errorf("ping: %+v", p)
	}
	ping.Dst = address.Next()
	if b := g.reply(ping.Frame()); b != nil {
		t.Errorf("a ping to another: %x", b)
	}
	if b := g.reply(arp{op: arpRequest, senderMAC: hostMAC, sender: gateway, target: address.Next()}.frame()); b != nil {
		t.Errorf("ARP for another: %x", b)
	}
}

// Segments come back as they were, options of other kinds between.
func TestSegment(t *testing.T) {
	s := segment{from: 40000, to: 80, seq: 1, ack: 2, flags: tcpSYN, maxLength: 1460}
	p := s.packet(packet.IP{Src: address, Dst: outside.Addr()})
	if got, ok := parseSegment(p); !ok || got != s {
		t.Errorf("got %+v, want %+v", got, s)
	}
	p.Payload = append(p.Payload[:20:20], 1, 1, 8, 2, 2, 4, 5, 0xb4)
	p.Payload[12] = 7 << 4
	if got, ok := parseSegment(p); !ok || got.maxLength != 1460 {
		t.Errorf("behind other options: %+v", got)
	}
	p.Payload = p.Payload[:19]
	if _, ok := parseSegment(p); ok {
		t.Error("a segment without a whole header was read")
	}
}
