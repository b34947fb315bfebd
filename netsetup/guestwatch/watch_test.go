package guestwatch

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"

	"github.com/qnet-vm/qnet/internal/packet"
)

var (
	guest = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 9}
	other = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 8}
	mine  = netip.MustParseAddr("10.0.0.9")
	host  = netip.MustParseAddr("10.0.0.1")
)

func udp(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	return packet.Datagram{SrcMAC: guest, DstMAC: packet.Broadcast, Src: src, Dst: dst, SrcPort: from, DstPort: to, Payload: payload}.Frame()
}

func dhcp(t dhcpv4.MessageType, client net.HardwareAddr, fromServer bool) []byte {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(client), dhcpv4.WithMessageType(t), dhcpv4.WithYourIP(mine.AsSlice()))
	if err != nil {
		panic(err)
	}
	if fromServer {
		return udp(host, mine, 67, 68, m.ToBytes())
	}
	return udp(netip.IPv4Unspecified(), host, 68, 67, m.ToBytes())
}

func arp(sender netip.Addr) []byte {
	b := make([]byte, 42)
	copy(b, packet.Broadcast)
	copy(b[6:], guest)
	binary.BigEndian.PutUint16(b[12:], etherARP)
	copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[22:], guest)
	s := sender.As4()
	copy(b[28:], s[:])
	return b
}

// dad is a check for duplicates of an address; denial what another host that has it says to all.
func dad(target string) []byte {
	return packet.NeighbourSolicitation(guest, netip.IPv6Unspecified(), netip.MustParseAddr(target))
}

func denial(target string) []byte {
	return packet.UnsolicitedAdvertisement(other, netip.MustParseAddr(target))
}

func nd(source string) []byte {
	b := make([]byte, 14+40+24)
	binary.BigEndian.PutUint16(b[12:], etherIPv6)
	b[14+6], b[14+40] = 58, 135
	a := netip.MustParseAddr(source).As16()
	copy(b[14+8:], a[:])
	return b
}

// frames has a frame for each stage; out says that the guest receives it.
var frames = []struct {
	name    string
	frame   []byte
	out     bool
	stage   Stage
	address netip.Addr
	telling bool // passes the socket's filter
}{
	{"anything", append(make([]byte, 12), 0x88, 0xb5, 1, 2), false, Frame, netip.Addr{}, false},
	{"HTTP", udp(mine, host, 5000, 80, []byte("x")), false, Frame, netip.Addr{}, false},
	{"DISCOVER", dhcp(dhcpv4.MessageTypeDiscover, guest, false), false, Discover, netip.Addr{}, true},
	{"OFFER", dhcp(dhcpv4.MessageTypeOffer, guest, true), true, Offer, netip.Addr{}, true},
	{"REQUEST", dhcp(dhcpv4.MessageTypeRequest, guest, false), false, Request, netip.Addr{}, true},
	{"ACK", dhcp(dhcpv4.MessageTypeAck, guest, true), true, ACK, mine, true},
	{"NAK", dhcp(dhcpv4.MessageTypeNak, guest, true), true, Frame, netip.Addr{}, true},
	{"ARP", arp(mine), false, ARP, mine, true},
	{"ARP probe", arp(netip.IPv4Unspecified()), false, Frame, netip.Addr{}, true},
	{"ND", nd("fe80::9"), false, Frame, netip.MustParseAddr("fe80::9"), true},
	{"ND of an address being tried", nd("::"), false, Frame, netip.Addr{}, true},
	{"DAD", dad("fd00::9"), false, Frame, netip.Addr{}, true},
	{"DNS query", udp(mine, host, 5000, 53, []byte("x")), false, DNSQuery, mine, true},
	{"DNS answer", udp(host, mine, 53, 5000, []byte("x")), true, DNSAnswer, netip.Addr{}, true},
}

func TestStages(t *testing.T) {
	filter, err := bpf.NewVM(telling)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range frames {
		x, ok := parse(c.frame, guest, c.out)
		if !ok || x.stage != c.stage || x.address != c.address || x.nak != (c.name == "NAK") {
			t.Errorf("%s: got %+v, %v", c.name, x, ok)
		}
		if n, err := filter.Run(c.frame); err != nil || n > 0 != c.telling {
			t.Errorf("%s: the filter passes %d bytes, %v", c.name, n, err)
		}
	}
}

// Frames of other guests and of the host do not count.
func TestOthersFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"OFFER to another":   dhcp(dhcpv4.MessageTypeOffer, other, true),
		"DISCOVER of others": dhcp(dhcpv4.MessageTypeDiscover, other, false),
		"ARP of the host":    arp(host),
		"ND of the host":     nd("fe80::1"),
	} {
		if x, ok := parse(frame, guest, true); ok {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

func TestState(t *testing.T) {
	var s State
	if s.Last() != Silent || s.Last().String() != "no frame" {
		t.Errorf("got %s", s.Last())
	}
	a := netip.MustParseAddr
	for _, x := range []struct {
		sighting
		news bool
		want []netip.Addr
	}{
		{sighting{stage: Frame}, true, nil},
		{sighting{stage: Frame}, false, nil},
		{sighting{stage: Frame, address: a("fe80::9")}, true, []netip.Addr{a("fe80::9")}},
		{sighting{stage: ARP, address: mine}, true, []netip.Addr{mine, a("fe80::9")}},
		{sighting{stage: ARP, address: mine}, false, []netip.Addr{mine, a("fe80::9")}},
		{sighting{stage: ARP, address: host}, true, []netip.Addr{host, mine, a("fe80::9")}},
		{sighting{stage: Frame, address: a("2001:db8::1")}, true, []netip.Addr{host, mine, a("2001:db8::1"), a("fe80::9")}},
		{sighting{stage: Frame, nak: true}, true, []netip.Addr{host, mine, a("2001:db8::1"), a("fe80::9")}},
	} {
		if news := s.add(x.sighting); news != x.news || !slices.Equal(s.Addresses, x.want) {
			t.Errorf("%+v: news=%v, %v", x.sighting, news, s.Addresses)
		}
	}
	if s.Last() != ARP || s.NAKs != 1 || !s.Has(Frame) || s.Has(ACK) {
		t.Errorf("%+v", s)
	}
	for i := range 100 {
		s.add(sighting{stage: ARP, address: netip.AddrFrom4([4]byte{10, 1, 1, byte(i)})})
	}
	if len(s.Addresses) != maxAddresses {
		t.Errorf("%d addresses", len(s.Addresses))
	}
}

// The addresses that a guest checks for duplicates are its own, unless another host has them.
func TestClaimedAddresses(t *testing.T) {
	a := netip.MustParseAddr
	s := State{Addresses: []netip.Addr{mine, a("2001:db8::1"), a("fd00::1"), a("fe80::9")}}
	for _, c := range []struct {
		name  string
		frame []byte
		out   bool
		news  bool
		want  []netip.Addr
	}{
		{"a link-local one", dad("fe80::9"), false, true, nil}, // it is the first frame
		{"one", dad("fd00::1"), false, true, []netip.Addr{a("fd00::1")}},
		{"again", dad("fd00::1"), false, false, []netip.Addr{a("fd00::1")}},
		{"a neighbour's", dad("fd00::7"), true, false, []netip.Addr{a("fd00::1")}},
		{"another", dad("fd00::2"), false, true, []netip.Addr{a("fd00::2"), a("fd00::1")}},
		{"denied", denial("fd00::2"), true, true, []netip.Addr{a("fd00::1")}},
		{"a neighbour's own", denial("fd00::7"), true, false, []netip.Addr{a("fd00::1")}},
		{"cut off", dad("fd00::3")[:70], false, false, []netip.Addr{a("fd00::1")}},
	} {
		x, ok := parse(c.frame, guest, c.out)
		if news := ok && s.add(x); news != c.news || !slices.Equal(s.Claims, c.want) {
			t.Errorf("%s: news=%v, %v", c.name, news, s.Claims)
		}
	}
	if got, want := s.IPv6(), []netip.Addr{a("fd00::1"), a("2001:db8::1")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var silent State
	if x, ok := parse(denial("fd00::7"), guest, true); ok && silent.add(x) || silent.Last() != Silent {
		t.Errorf("a neighbour's frame: %+v", silent)
	}
	for i := range 100 {
		x, _ := parse(dad(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}).String()), guest, false)
		s.add(x)
	}
	if len(s.Claims) != maxAddresses {
		t.Errorf("%d claims", len(s.Claims))
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range frames {
		f.Add(c.frame, c.out)
	}
	f.Fuzz(func(t *testing.T, frame []byte, out bool) {
		var s State
		if x, ok := parse(frame, guest, out); ok {
			s.add(x)
			if x.address.IsUnspecified() && x.address.IsValid() {
				t.Errorf("the guest uses %s", x.address)
			}
		}
	})
}

// A guest claims an IPv6 address by asking about it, and by what it discovers neighbors from.
func TestClaims(t *testing.T) {
	asked := nd("::")
	asked[14+7] = 255
	target := netip.MustParseAddr("fe80::7").As16()
	copy(asked[14+48:], target[:])
	forwarded := slices.Clone(asked)
	forwarded[14+7] = 64 // a router has passed it on
	for name, c := range map[string]struct {
		frame []byte
		want  netip.Addr
	}{
		"a question":              {asked, netip.MustParseAddr("fe80::7")},
		"one from another link":   {forwarded, netip.Addr{}},
		"a question in two parts": {asked[:14+60], netip.Addr{}},
		"a search for a neighbor": {nd("fe80::9"), netip.MustParseAddr("fe80::9")},
		"ARP":                     {arp(mine), netip.Addr{}},
	} {
		if x, _ := parse(c.frame, guest, false); x.claim != c.want {
			t.Errorf("%s: got %s, want %s", name, x.claim, c.want)
		}
	}
}
