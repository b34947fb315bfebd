package filters

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// out is a guest's first packet to a web server outside.
func out() Packet {
	return Packet{
		Name: "out", Path: routedPath(nft.Forward), In: "qn-dev", Out: "eth0", PortIn: "qnweb0",
		Src: netip.MustParseAddr("192.168.223.2"), Dst: netip.MustParseAddr("9.9.9.9"), Proto: TCP, Sport: 45678, Dport: 443,
	}
}

// one is a condition on one field.
func one(f Field, ranges ...Range) Match { return Match{Fields: []Field{f}, Any: ranges} }

func span(low, high []byte) Range { return Range{Low: low, High: high} }

var (
	ipSource   = Field{Header: NetworkHeader, Offset: 12, Len: 4}
	ip6Source  = Field{Header: NetworkHeader, Offset: 8, Len: 16}
	tcpDport   = Field{Header: TransportHeader, Offset: 2, Len: 2}
	linkIn     = Field{Name: InLink, Len: 16}
	connection = Field{Name: CTState, Len: 4}
)

// Each condition holds for the packet, does not, or may; its text is as nft's.
func TestMatch(t *testing.T) {
	bytes := func(b ...byte) []byte { return b }
	for _, c := range []struct {
		match Match
		want  tri
		text  string
	}{
		{Match{}, maybe, "[not understood]"},
		{one(linkIn, span(LinkName("qn-dev"), LinkName("qn-dev"))), yes, `iifname "qn-dev"`},
		{one(linkIn, span([]byte("qn-"), []byte("qn-"))), yes, `iifname "qn-*"`},
		{one(linkIn, span(LinkName("qn"), LinkName("qn"))), no, `iifname "qn"`},
		{one(ipSource, span(bytes(192, 168, 223, 0), bytes(192, 168, 223, 255))), yes, "ip saddr 192.168.223.0-192.168.223.255"},
		{one(ipSource, span(bytes(10, 0, 0, 1), bytes(10, 0, 0, 1)), span(bytes(192, 168, 223, 2), bytes(192, 168, 223, 2))), yes, "ip saddr { 10.0.0.1, 192.168.223.2 }"},
		{Match{Fields: []Field{ipSource}, Mask: bytes(255, 255, 0, 0), Any: []Range{span(bytes(192, 168, 0, 0), bytes(192, 168, 0, 0))}}, yes, "ip saddr 192.168.0.0/16"},
		{Match{Fields: []Field{ipSource}, Mask: bytes(255, 0, 255, 0), Any: []Range{span(bytes(192, 0, 1, 0), bytes(192, 0, 1, 0))}}, no, "ip saddr & 0xff00ff00 == 192.0.1.0"},
		{Match{Fields: []Field{ipSource}, Mask: bytes(255, 0, 255, 0), Any: []Range{span(bytes(192, 0, 1, 0), bytes(192, 0, 1, 0))}, Not: true}, yes, "ip saddr & 0xff00ff00 != 192.0.1.0"},
		{one(Field{Header: NetworkHeader, Offset: 12, Len: 3}, span(bytes(192, 168, 223), bytes(192, 168, 223))), yes, "@nh,96,24 192.168.223.0/24"},
		{one(tcpDport, span(bytes(1, 187), bytes(1, 187))), yes, "th dport 443"},
		{Match{Fields: []Field{tcpDport}, Any: []Range{span(bytes(1, 187), bytes(1, 187))}, Not: true}, no, "th dport != 443"},
		{one(Field{Name: L4Proto, Len: 1}, span(bytes(6), bytes(6))), yes, "meta l4proto tcp"},
		{one(Field{Name: L4Proto, Len: 1}, span(bytes(99), bytes(99))), no, "meta l4proto 99"},
		{one(Field{Name: NFProto, Len: 1}, span(bytes(2), bytes(2))), yes, "meta nfproto ipv4"},
		{one(Field{Name: EtherType, Len: 2}, span(bytes(8, 0), bytes(8, 0))), yes, "meta protocol 2048"},
		{one(Field{Header: LinkHeader, Offset: 12, Len: 2}, span(bytes(8, 6), bytes(8, 6))), no, "ether type 2054"},
		{one(Field{Header: LinkHeader, Offset: 0, Len: 6}, span(bytes(2, 0, 0, 0, 0, 1), bytes(2, 0, 0, 0, 0, 1))), maybe, "@ll,0,48 0x020000000001"},
		{one(Field{Header: TransportHeader, Offset: 60, Len: 1}, span(bytes(1), bytes(1))), maybe, "@th,480,8 1"},
		{one(Field{Name: MetaMark, Len: 4}, span(native(1), native(1))), no, "meta mark 0x00000001"},
		{one(Field{Name: DstType, Len: 4}, span(native(2), native(2))), no, "fib daddr type local"},
		{one(Field{Name: SrcType, Len: 4}, span(native(1), native(1))), yes, "fib saddr type unicast"},
		{one(Field{Name: SrcRoute, Len: 4}, span(native(0), native(0))), no, "fib saddr oif 0x00000000"},
		{one(Field{Name: CTStatus, Len: 4}, span(native(0), native(0))), yes, "ct status 0x00000000"},
		{one(Field{Name: PktType, Len: 1}, span(bytes(0), bytes(0))), yes, "meta pkttype 0"},
		{one(Field{Name: PortIn, Len: 16}, span([]byte("qn"), []byte("qn"))), yes, `physdev in "qn*"`},
		{one(Field{Name: PortOut, Len: 16}, span([]byte("qn"), []byte("qn"))), maybe, `physdev out "qn*"`},
		{one(Field{Name: Bridged, Len: 1}, span(bytes(1), bytes(1))), no, "physdev is bridged 1"},
		{one(Field{Name: "meta skuid", Len: 4}, span(native(7), native(7))), maybe, "meta skuid 0x00000007"},
		{AnyBit(CTState, StateEstablished|StateRelated, false), no, "ct state related,established"},
		{AnyBit(CTState, StateInvalid, true), yes, "ct state ! invalid"},
		{AnyBit(CTState, StateNew|StateUntracked|StateSNAT|StateDNAT, false), yes, "ct state new,untracked,snat,dnat"},
		{one(connection), no, "ct state {  }"},
		{
			Match{Fields: []Field{linkIn, tcpDport}, Any: []Range{span(append(LinkName("qn-dev"), 1, 187), append(LinkName("qn-dev"), 1, 187))}},
			yes,
			`iifname . th dport "qn-dev" . 443`,
		},
		{Match{Fields: []Field{linkIn, tcpDport}, Any: []Range{span(LinkName("qn-dev"), LinkName("qn-dev"))}}, no, `iifname . th dport "qn-dev" . 0x`},
		{
			one(tcpDport, span(bytes(0, 1), bytes(0, 1)), span(bytes(0, 2), bytes(0, 2)), span(bytes(0, 3), bytes(0, 3)), span(bytes(0, 4), bytes(0, 4)), span(bytes(0, 5), bytes(0, 6))), no,
			"th dport { 1, 2, 3, 4, ... 1 more }",
		},
		{one(ip6Source, span(make([]byte, 16), make([]byte, 16))), maybe, "ip6 saddr ::"},
	} {
		p := out()
		if got := c.match.holds(&p); got != c.want {
			t.Errorf("%s: holds: %d, want %d", c.text, got, c.want)
		}
		if got := c.match.String(); got != c.text {
			t.Errorf("got %q, want %q", got, c.text)
		}
	}
}

// Packets of each protocol have the headers that rules ask for.
func TestHeaders(t *testing.T) {
	six := out()
	six.Src, six.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1")
	for name, c := range map[string]struct {
		change func(*Packet)
		field  Field
		want   []byte
	}{
		"SYN":            {func(*Packet) {}, Field{Header: TransportHeader, Offset: 13, Len: 1}, []byte{0x02}},
		"SYN ACK":        {func(p *Packet) { p.Established = true }, Field{Header: TransportHeader, Offset: 13, Len: 1}, []byte{0x12}},
		"UDP ports":      {func(p *Packet) { p.Proto = UDP }, tcpDport, []byte{1, 187}},
		"echo request":   {func(p *Packet) { p.Proto = ICMP }, Field{Header: TransportHeader, Len: 1}, []byte{8}},
		"echo reply":     {func(p *Packet) { p.Proto, p.Established = ICMP, true }, Field{Header: TransportHeader, Len: 1}, []byte{0}},
		"ICMPv6 request": {func(p *Packet) { *p = six; p.Proto = ICMPv6 }, Field{Header: TransportHeader, Len: 1}, []byte{128}},
		"ICMPv6 reply":   {func(p *Packet) { *p = six; p.Proto, p.Established = ICMPv6, true }, Field{Header: TransportHeader, Len: 1}, []byte{129}},
		"IPv6 source":    {func(p *Packet) { *p = six }, ip6Source, six.Src.AsSlice()},
		"IPv6 next":      {func(p *Packet) { *p = six }, Field{Header: NetworkHeader, Offset: 6, Len: 1}, []byte{6}},
		"IPv6 EtherType": {func(p *Packet) { *p = six }, Field{Header: LinkHeader, Offset: 12, Len: 2}, []byte{0x86, 0xdd}},
		"IPv4 protocol":  {func(*Packet) {}, Field{Header: NetworkHeader, Offset: 9, Len: 1}, []byte{6}},
		"reply seen":     {func(p *Packet) { p.Established = true }, Field{Name: CTStatus, Len: 4}, native(2 | 4 | 8)},
	} {
		p := out()
		c.change(&p)
		if got, known := p.value(c.field); !known || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, %t, want %v", name, got, known, c.want)
		}
	}
}
