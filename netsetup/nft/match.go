package nft

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Field is a part of a frame that a Match compares, as nft(8) spells it.
type Field string

// The fields. Those that begin with @ have names in nft(8), too; but by those it would
// compare nothing in an egress chain, which has no input link. Their values are
// hexadecimal, and one match has one.
const (
	EtherDest      Field = "@ll,0,48"
	EtherSource    Field = "@ll,48,48"
	EtherType      Field = "@ll,96,16"     // as sent: a VLAN's where the frame is tagged
	Protocol       Field = "meta protocol" // behind the outer VLAN tag
	IPVersion      Field = "meta nfproto"  // "ipv4" or "ipv6"; of INet
	ARPHardware    Field = "arp htype"
	ARPProtocol    Field = "arp ptype"
	ARPHardwareLen Field = "arp hlen"
	ARPProtocolLen Field = "arp plen"
	ARPSenderMAC   Field = "arp saddr ether"
	ARPSenderIP    Field = "arp saddr ip"
	IPSource       Field = "ip saddr"
	IPDest         Field = "ip daddr"
	IP6Source      Field = "ip6 saddr"
	IP6Dest        Field = "ip6 daddr"
	FragmentOffset Field = "frag frag-off" // of IPv6
	// Transport is the protocol behind all extension headers. It matches nothing, also
	// with Not, in a first fragment that ends before its headers do.
	Transport  Field = "meta l4proto"
	UDPSource  Field = "udp sport"
	UDPDest    Field = "udp dport"
	ICMPv6Type Field = "icmpv6 type"
	DestPort   Field = "th dport" // of TCP and UDP
	ICMPType   Field = "icmp type"
	NDTarget   Field = "@th,64,128" // the address that neighbour discovery is about
	// Parts of NDTarget: its first 64 bits, and bits 64 to 95 and 88 to 103.
	NDTargetPrefix Field = "@th,64,64"
	NDTargetHigh   Field = "@th,128,32"
	NDTargetMiddle Field = "@th,152,16"
	// IP6Any is IP6Source as a field that a Set of addresses takes.
	IP6Any Field = "@nh,64,128"
)

// Match compares a field of a frame with values, as nft(8) takes them. It matches one that
// equals any of them, with Op "!=" one that equals none, and with "<" one that is less than
// the only value. It matches no frame that lacks the field. "@lan", as the only value, is all of
// the Set lan.
type Match struct {
	Field  Field    `json:"field"`
	Op     string   `json:"op,omitempty"` // "", "!=" or "<"
	Values []string `json:"values"`       // at least one
}

// Is matches frames whose field has one of the values.
func Is(f Field, values ...string) Match { return Match{Field: f, Values: values} }

// IsNot matches frames whose field has another value.
func IsNot(f Field, values ...string) Match { return Match{Field: f, Op: "!=", Values: values} }

// IsBelow matches frames whose field is less than the value.
func IsBelow(f Field, value string) Match { return Match{Field: f, Op: "<", Values: []string{value}} }

// String renders the match as nft(8) reads it.
func (m Match) String() string {
	value := m.Values[0]
	if len(m.Values) > 1 {
		value = "{ " + strings.Join(m.Values, ", ") + " }"
	}
	if m.Op != "" {
		value = m.Op + " " + value
	}
	return string(m.Field) + " " + value
}

// MACValue is a MAC as the value of a field that begins with @.
func MACValue(mac net.HardwareAddr) string { return fmt.Sprintf("0x%x", []byte(mac)) }

// IP6Value is an address as the value of a field that begins with @.
func IP6Value(a netip.Addr) string { return fmt.Sprintf("0x%x", a.AsSlice()) }

// words are the values that nft(8) has words for: EtherTypes and protocols.
var words = map[string]uint64{
	"ip": 0x0800, "arp": 0x0806, "ip6": 0x86dd, "8021q": 0x8100, "8021ad": 0x88a8,
	"igmp": 2, "tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58, "ipv4": 2, "ipv6": 10,
}

// encodeValue returns the value in n bytes, as it is in a frame.
func encodeValue(value string, n int) ([]byte, error) {
	if a, err := netip.ParseAddr(value); err == nil {
		return a.AsSlice(), nil
	}
	if mac, err := net.ParseMAC(value); err == nil {
		return mac, nil
	}
	digits, isHex := strings.CutPrefix(value, "0x")
	if isHex && len(digits) == 2*n {
		b := make([]byte, n)
		_, err := fmt.Sscanf(digits, "%x", &b)
		return b, err
	}
	number, known := words[value]
	if !known {
		var err error
		if number, err = strconv.ParseUint(value, 0, 8*min(n, 8)); err != nil {
			return nil, fmt.Errorf("value %q: %w", value, err)
		}
	}
	b := make([]byte, n)
	for i := range b {
		b[n-1-i] = byte(number >> (8 * i))
	}
	return b, nil
}
