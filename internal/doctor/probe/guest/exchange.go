package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// ReplyTime is long enough for a reply of ARP, ping or TCP from a network that works.
const ReplyTime = 600 * time.Millisecond

// againTime is the interval after which a packet is sent again.
const againTime = 200 * time.Millisecond

// Silence is the error about a packet that vanished: neither a reply came nor an ICMP
// error. It wraps ErrSilence.
type Silence struct {
	Flow Flow
	err  error
}

func (e *Silence) Error() string { return e.Flow.String() + ": " + e.err.Error() }

// Unwrap returns the error with ErrSilence and the time waited.
func (e *Silence) Unwrap() error { return e.err }

// Neighbor returns the MAC of an address. It asks by ARP once and keeps the reply.
func (g *Guest) Neighbor(ctx context.Context, a netip.Addr) (net.HardwareAddr, error) {
	g.mu.Lock()
	mac := g.neighbors[a]
	g.mu.Unlock()
	if mac != nil {
		return mac, nil
	}
	mac, err := g.WhoHas(ctx, a, ReplyTime)
	if errors.Is(err, ErrSilence) {
		err = &Silence{Flow{Src: g.Lease().Address, Dst: a, Protocol: ARP}, err}
	}
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.neighbors[a] = mac
	g.mu.Unlock()
	return mac, nil
}

// WhoHas asks by ARP for the MAC of an address.
func (g *Guest) WhoHas(ctx context.Context, a netip.Addr, within time.Duration) (net.HardwareAddr, error) {
	frame, err := g.ask(ctx, within, againTime, func(b []byte) bool {
		r, ok := parseARP(b)
		return ok && r.op == arpReply && r.sender == a
	}, arp{op: arpRequest, senderMAC: g.MAC, sender: g.Lease().Address, target: a}.frame())
	if err != nil {
		return nil, err
	}
	r, _ := parseARP(frame)
	return r.senderMAC, nil
}

// nextHop is the MAC to which the guest sends a packet for an address.
func (g *Guest) nextHop(ctx context.Context, to netip.Addr) (net.HardwareAddr, error) {
	l := g.Lease()
	if l.Prefix.IsValid() && l.Prefix.Contains(to) {
		return g.Neighbor(ctx, to)
	}
	if !l.Gateway.IsValid() {
		return nil, fmt.Errorf("send to %s: the guest has no route there", to)
	}
	return g.Neighbor(ctx, l.Gateway)
}

// exchange sends a packet and returns the reply that matches. Its error is *ICMPError
// if an ICMP error came, and *Silence if nothing did.
func (g *Guest) exchange(ctx context.Context, within time.Duration, p packet.IP, match func(packet.IP) bool) (packet.IP, error) {
	flow := FlowOf(p)
	frame, err := g.ask(ctx, within, againTime, func(b []byte) bool {
		got, ok := packet.ParseIP(b)
		return ok && (match(got) || icmpErrorOf(got, flow) != nil)
	}, p.Frame())
	if errors.Is(err, ErrSilence) {
		return packet.IP{}, &Silence{flow, err}
	}
	if err != nil {
		return packet.IP{}, err
	}
	got, _ := packet.ParseIP(frame)
	if e := icmpErrorOf(got, flow); e != nil {
		return got, e
	}
	return got, nil
}

// to is an empty packet to an address, by the routes of the guest.
func (g *Guest) to(ctx context.Context, a netip.Addr) (packet.IP, error) {
	mac, err := g.nextHop(ctx, a)
	return packet.IP{SrcMAC: g.MAC, DstMAC: mac, Src: g.Lease().Address, Dst: a}, err
}

// headers is the size of the headers of an echo request, in bytes.
const headers = 20 + 8

// Ping sends an echo request of size bytes, headers included, that routers may not
// fragment, and returns the time to its reply.
func (g *Guest) Ping(ctx context.Context, a netip.Addr, size int, within time.Duration) (time.Duration, error) {
	p, err := g.to(ctx, a)
	if err != nil {
		return 0, err
	}
	return g.PingPacket(ctx, p, size, within)
}

// PingPacket is Ping with a packet that has its addresses.
func (g *Guest) PingPacket(ctx context.Context, p packet.IP, size int, within time.Duration) (time.Duration, error) {
	id := g.NextID()
	p.Protocol, p.DontFragment = ICMP, true
	p.Payload = EchoRequest(id, 1, max(size-headers, 0))
	begin := time.Now()
	_, err := g.exchange(ctx, within, p, func(got packet.IP) bool {
		echo, ok := packet.ParseEcho(got.Payload)
		return ok && got.Protocol == ICMP && got.Src == p.Dst && echo.Reply && echo.ID == id
	})
	return time.Since(begin), err
}

// Connection is what the reply to a SYN says.
type Connection struct {
	Flow    Flow // of the SYN
	Took    time.Duration
	Refused bool // by a RST: the packets pass both ways, and the port is closed
	MSS     int  // the peer's, as it arrived; 0 if it gave none
}

// Connect opens a TCP connection and resets it at once.
func (g *Guest) Connect(ctx context.Context, to netip.AddrPort, within time.Duration) (Connection, error) {
	p, err := g.to(ctx, to.Addr())
	if err != nil {
		return Connection{}, err
	}
	port := 32768 + g.NextID()&0x3fff
	syn := segment{from: port, to: to.Port(), seq: 1, flags: tcpSYN, maxLength: uint16(g.MTU() - 40)}
	begin := time.Now()
	got, err := g.exchange(ctx, within, syn.packet(p), func(got packet.IP) bool {
		s, ok := parseSegment(got)
		return ok && got.Src == p.Dst && s.from == to.Port() && s.to == port && s.flags&(tcpSYN|tcpRST) != 0
	})
	c := Connection{Flow: FlowOf(syn.packet(p)), Took: time.Since(begin)}
	if err != nil {
		return c, err
	}
	s, _ := parseSegment(got)
	c.Refused, c.MSS = s.flags&tcpRST != 0, int(s.maxLength)
	if !c.Refused {
		err = g.Send(segment{from: port, to: to.Port(), seq: 2, ack: s.seq + 1, flags: tcpRST | tcpACK}.packet(p).Frame())
	}
	return c, err
}

// MTU is the MTU of the lease, or that of Ethernet.
func (g *Guest) MTU() int {
	if mtu := g.Lease().MTU; mtu != 0 {
		return mtu
	}
	return host.DefaultMTU
}

// AnswerError is the reply of a name server that holds no address.
type AnswerError dnsmessage.RCode

func (e AnswerError) Error() string {
	if dnsmessage.RCode(e) == dnsmessage.RCodeSuccess {
		return "the name has no address"
	}
	return "the name server answers " + rcodes[dnsmessage.RCode(e)]
}

// rcodes are the names that dig(1) prints.
var rcodes = map[dnsmessage.RCode]string{
	dnsmessage.RCodeFormatError: "FORMERR", dnsmessage.RCodeServerFailure: "SERVFAIL", dnsmessage.RCodeNameError: "NXDOMAIN",
	dnsmessage.RCodeNotImplemented: "NOTIMP", dnsmessage.RCodeRefused: "REFUSED",
}

// Resolve asks the guest's name server for the IPv4 addresses of a name.
func (g *Guest) Resolve(ctx context.Context, name string, within time.Duration) ([]netip.Addr, error) {
	p, err := g.to(ctx, g.Lease().Resolver)
	if err != nil {
		return nil, err
	}
	id := g.NextID()
	query, err := Question(id, name)
	if err != nil {
		return nil, err
	}
	d := packet.Datagram{
		SrcMAC: p.SrcMAC, DstMAC: p.DstMAC, Src: p.Src, Dst: p.Dst, SrcPort: 32768 + id&0x3fff, DstPort: 53, Payload: query,
	}
	p, _ = packet.ParseIP(d.Frame())
	got, err := g.exchange(ctx, within, p, func(got packet.IP) bool {
		f := FlowOf(got)
		return got.Protocol == UDP && f.Src == d.Dst && f.ID == d.DstPort && f.Port == d.SrcPort
	})
	if err != nil {
		return nil, err
	}
	return addressesIn(got.Payload[8:])
}

// Question is a DNS query for the IPv4 addresses of a name.
func Question(id uint16, name string) ([]byte, error) { return question(id, name, dnsmessage.TypeA) }

func question(id uint16, name string, kind dnsmessage.Type) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

func addressesIn(b []byte) ([]netip.Addr, error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("read DNS answer: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range m.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			addrs = append(addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			addrs = append(addrs, netip.AddrFrom16(body.AAAA))
		}
	}
	if len(addrs) == 0 {
		return nil, AnswerError(m.RCode)
	}
	return addrs, nil
}

// packetSizes are the sizes of IP packets that Passes tries: those of PPPoE and of
// several VPNs, and the least that IPv6 allows.
var packetSizes = []int{1492, 1472, 1450, 1420, 1400, 1380, 1280, 576}

// Passes is the largest of some packet sizes below full that reach an address, in
// bytes; 0 if none does.
func (g *Guest) Passes(ctx context.Context, a netip.Addr, full int) int {
	sizes := slices.DeleteFunc(slices.Clone(packetSizes), func(size int) bool { return size >= full })
	results := make(chan int, len(sizes))
	for _, size := range sizes {
		go func() {
			if _, err := g.Ping(ctx, a, size, ReplyTime); err != nil {
				size = 0
			}
			results <- size
		}()
	}
	best := 0
	for range sizes {
		best = max(best, <-results)
	}
	return best
}

// NextID numbers echo requests, queries and source ports, so that a reply has one
// request.
func (g *Guest) NextID() uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.id++
	return g.id
}
