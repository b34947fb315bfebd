// Package ra advertises the host as the router of a network's guests (RFC 4861, 4862, 8106):
// the prefix, from which they make addresses, the way to the Internet, the name server and the
// MTU.
//
// The flags A, M and O are all set. So a guest without a DHCPv6 client has an address and
// a route, and one with a client the address that qnet knows besides.
//
// Making and reading messages is pure. An [Advertiser] sends by a function that it is given and
// decides when. It makes the messages itself: it needs six options, and the library that has
// them all would make the binary 110 KB longer.
package ra

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Lifetimes that advertisements tell, in seconds.
const (
	routerLifetime    = 1800
	prefixValid       = 2 * 60 * 60 // a guest keeps an address for as long as it was told, at least 2 h (RFC 4862, 5.5.3)
	prefixPreferred   = 60 * 60
	nameServerLasting = 1800
)

// Types of messages (RFC 4861, section 4) and of their options.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134

	optionSourceLink  = 1
	optionPrefix      = 3
	optionMTU         = 5
	optionNameServers = 25 // RFC 8106, section 5.1
	optionSearchList  = 31 // section 5.2
)

// hopLimit is that of all messages of neighbour discovery: a router forwards none of them.
const hopLimit = 255

var allNodes = netip.MustParseAddr("ff02::1")

// Config is what a network's advertisements tell.
type Config struct {
	MAC     net.HardwareAddr // the bridge's, whose link-local address by EUI-64 is the router
	Prefix  netip.Prefix     // of 64 bits
	Address netip.Addr       // the name server, in Prefix
	Domain  string           // "" offers no DNS
	MTU     int              // bytes
}

// kind is what an advertisement says about the way out and the prefix.
type kind int

const (
	noRouter kind = iota // addresses only: no default route leads to the host
	router
	last // the network ends: neither way out nor prefix is to be used any more
)

// frame returns an advertisement for all guests, or for one that has asked.
func (c Config) frame(k kind, to netip.Addr, mac net.HardwareAddr) []byte {
	return packet.IPv6Packet{
		SrcMAC: c.MAC, DstMAC: mac, Src: packet.EUI64(packet.LinkLocal, c.MAC), Dst: to,
		Protocol: unix.IPPROTO_ICMPV6, HopLimit: hopLimit, Payload: c.message(k),
	}.Frame()
}

// message returns an advertisement (RFC 4861, section 4.2), whose checksum is not set.
func (c Config) message(k kind) []byte {
	const managed, other = 0x80, 0x40
	b := make([]byte, 0, 160)
	b = append(b, typeAdvertisement, 0, 0, 0, 64, managed|other)
	var life, valid, preferred, names uint32 = 0, prefixValid, prefixPreferred, nameServerLasting
	switch k {
	case router:
		life = routerLifetime
	case last:
		preferred, names = 0, 0
	case noRouter:
	}
	b = binary.BigEndian.AppendUint16(b, uint16(life))
	b = append(b, make([]byte, 8)...) // reachable time and retransmission timer: the guest's own
	b = append(append(b, optionSourceLink, 1), c.MAC...)
	b = c.appendPrefix(b, valid, preferred)
	if c.MTU != 1500 {
		b = binary.BigEndian.AppendUint32(append(b, optionMTU, 1, 0, 0), uint32(c.MTU))
	}
	if c.Domain != "" {
		b = c.appendNames(b, names)
	}
	return b
}

// appendPrefix appends the option of a prefix that is on the link and makes addresses (RFC
// 4861, section 4.6.2).
func (c Config) appendPrefix(b []byte, valid, preferred uint32) []byte {
	const onLink, autonomous = 0x80, 0x40
	b = append(b, optionPrefix, 4, 64, onLink|autonomous)
	b = binary.BigEndian.AppendUint32(b, valid)
	b = binary.BigEndian.AppendUint32(b, preferred)
	prefix := c.Prefix.Masked().Addr().As16()
	return append(append(b, 0, 0, 0, 0), prefix[:]...)
}

// appendNames appends the options of the name server and of the search list (RFC 8106).
func (c Config) appendNames(b []byte, life uint32) []byte {
	b = binary.BigEndian.AppendUint32(append(b, optionNameServers, 3, 0, 0), life)
	server := c.Address.As16()
	b = append(b, server[:]...)
	labels := Labels(c.Domain)
	length := (8 + len(labels) + 7) / 8
	b = binary.BigEndian.AppendUint32(append(b, optionSearchList, byte(length), 0, 0), life)
	b = append(b, labels...)
	return append(b, make([]byte, 8*length-8-len(labels))...)
}

// Labels returns a domain name as in DNS (RFC 1035, section 3.1).
func Labels(domain string) []byte {
	b := make([]byte, 0, len(domain)+2)
	for label := range strings.SplitSeq(domain, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// Solicitation is a guest's question for the router.
type Solicitation struct {
	From netip.Addr // unspecified of a guest that has no address yet
	MAC  net.HardwareAddr
}

// ParseSolicitation reads a router solicitation that is valid by RFC 4861, section 6.1.1, but
// for its checksum. The MAC shares memory with the frame.
func ParseSolicitation(frame []byte) (Solicitation, bool) {
	p, ok := packet.ParseIPv6(frame)
	if !ok || p.Protocol != unix.IPPROTO_ICMPV6 || p.HopLimit != hopLimit || len(p.Payload) < 8 || p.Payload[0] != typeSolicitation || p.Payload[1] != 0 {
		return Solicitation{}, false
	}
	if p.SrcMAC[0]&1 != 0 || p.Src.IsMulticast() {
		return Solicitation{}, false
	}
	for options := p.Payload[8:]; len(options) > 0; {
		length := 8 * int(options[min(1, len(options)-1)])
		if length == 0 || length > len(options) {
			return Solicitation{}, false
		}
		if options[0] == optionSourceLink && p.Src.IsUnspecified() {
			return Solicitation{}, false
		}
		options = options[length:]
	}
	return Solicitation{p.Src, p.SrcMAC}, true
}

// When advertisements are sent (RFC 4861, section 6.2).
const (
	first        = 3               // so many are sent soon after the start, and after a change
	firstPause   = 4 * time.Second // between those
	pause        = 200 * time.Second
	betweenAll   = 3 * time.Second // at least, between two for all guests that they have asked for
	answersEach  = time.Second     // for so many
	mostAnswered = 64              // solicitations answered each time; the guests beyond get one for all
)
