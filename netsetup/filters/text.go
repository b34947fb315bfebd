package filters

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// maxListed is how many values of a set String shows.
const maxListed = 4

// String is the condition, nearly as nft(8) lists it.
func (m Match) String() string {
	if len(m.Fields) == 0 {
		return "[not understood]"
	}
	names := make([]string, len(m.Fields))
	for i, f := range m.Fields {
		names[i] = f.String()
	}
	name := strings.Join(names, " . ")
	if words, ok := m.stateWords(); ok {
		return name + " " + words
	}
	op := pick(m.Not, " != ", " ")
	if m.Mask != nil && !m.isPrefix() {
		op = fmt.Sprintf(" & 0x%x %s ", m.Mask, pick(m.Not, "!=", "=="))
	}
	values := m.values()
	if len(values) == 1 {
		return name + op + values[0]
	}
	return name + op + "{ " + strings.Join(values, ", ") + " }"
}

func (m Match) values() []string {
	var values []string
	for _, r := range m.Any {
		if len(values) == maxListed {
			return append(values, fmt.Sprintf("... %d more", len(m.Any)-maxListed))
		}
		values = append(values, m.rangeText(r))
	}
	return values
}

func (m Match) rangeText(r Range) string {
	var low, high []string
	at := 0
	for _, f := range m.Fields {
		width := pick(len(m.Fields) == 1, len(r.Low), f.Len)
		low = append(low, f.text(slice(r.Low, at, width), m.Mask))
		high = append(high, f.text(slice(r.High, at, width), m.Mask))
		at += (width + 3) &^ 3
	}
	a, b := strings.Join(low, " . "), strings.Join(high, " . ")
	if a == b {
		return a
	}
	return a + "-" + b
}

// isPrefix reports whether the mask selects a prefix of an address.
func (m Match) isPrefix() bool {
	return len(m.Fields) == 1 && m.Fields[0].isAddress() && maskBits(m.Mask) >= 0
}

// maskBits is the length of the prefix that a mask selects, -1 if it is none.
func maskBits(mask []byte) int {
	n := 0
	for i, b := range mask {
		lead := bits.LeadingZeros8(^b)
		n += lead
		if lead == 8 {
			continue
		}
		if b != ^byte(0)<<(8-lead) || len(bytes.Trim(mask[i+1:], "\x00")) > 0 {
			return -1
		}
		break
	}
	return n
}

// IsSource reports whether the field is the source address of an IPv4 or IPv6 header,
// or begins it.
func (f Field) IsSource() bool {
	return f.Header == NetworkHeader && (f.Offset == 12 && f.Len <= 4 || f.Offset == 8 && f.Len > 1)
}

// IsDestination reports the same of the destination address.
func (f Field) IsDestination() bool {
	return f.Header == NetworkHeader && (f.Offset == 16 && f.Len <= 4 || f.Offset == 24)
}

func (f Field) isLink() bool {
	return f.Name == InLink || f.Name == OutLink || f.Name == PortIn || f.Name == PortOut
}

func (f Field) isAddress() bool { return f.IsSource() || f.IsDestination() }

// text is a value of the field in words.
func (f Field) text(v, mask []byte) string {
	switch {
	case f.isLink():
		name, exact := LinkText(v)
		return strconv.Quote(name + pick(exact, "", "*"))
	case f.isAddress():
		return f.AddressText(v, mask)
	case f.Name == L4Proto || f.Header == NetworkHeader && f.Offset == 9 && len(v) == 1:
		return ProtocolText(v[0])
	case f.Name == NFProto && len(v) == 1:
		return pick(v[0] == 2, "ipv4", "ipv6")
	case f.Name == SrcType || f.Name == DstType:
		return AddressTypeText(nativeValue(v))
	}
	return numberText(f, v)
}

// numberText is a value that has no name: of a header in network byte order.
func numberText(f Field, v []byte) string {
	switch {
	case f.Name != "" && len(v) == 4:
		return fmt.Sprintf("0x%08x", nativeValue(v))
	case len(v) == 1:
		return strconv.Itoa(int(v[0]))
	case len(v) == 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(v)))
	}
	return fmt.Sprintf("0x%x", v)
}

func nativeValue(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// LinkText is the name of a link from its bytes; exact is false if they only begin it.
func LinkText(v []byte) (name string, exact bool) {
	name, _, exact = strings.Cut(string(v), "\x00")
	return name, exact || len(v) == 16
}

// AddressText is a value of an address field as an address or a prefix. A prefix of
// whole bytes may be given by these bytes alone.
func (f Field) AddressText(v, mask []byte) string {
	size := pick(f.Offset == 12 || f.Offset == 16, 4, 16)
	full := make([]byte, size)
	copy(full, v)
	addr, _ := netip.AddrFromSlice(full)
	n := 8 * len(v)
	if mask != nil {
		n = maskBits(mask)
	}
	if n < 0 || n == 8*size { // String prints a mask that selects no prefix
		return addr.String()
	}
	return netip.PrefixFrom(addr, n).String()
}

// AddressTypeText is nft's name of a type of address (linux/rtnetlink.h, RTN_*), ""
// for one without.
func AddressTypeText(n uint32) string { return addressTypes[n] }

var addressTypes = map[uint32]string{1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

var protocols = map[byte]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}

// ProtocolText is the name of an IP protocol, or its number.
func ProtocolText(p byte) string {
	if name := protocols[p]; name != "" {
		return name
	}
	return strconv.Itoa(int(p))
}

// stateWords is "ct state & MASK != 0" in words.
func (m Match) stateWords() (string, bool) {
	if len(m.Fields) != 1 || m.Fields[0].Name != CTState || len(m.Mask) != 4 || len(m.Any) != 1 || nativeValue(m.Any[0].Low) != 0 {
		return "", false
	}
	words := strings.ToLower(strings.Join(StateNames(nativeValue(m.Mask)), ","))
	return pick(m.Not, "", "! ") + words, true
}

// StateNames are the words of iptables for bits of "ct state", in its order.
func StateNames(mask uint32) []string {
	var names []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{
		{StateInvalid, "INVALID"},
		{StateNew, "NEW"},
		{StateRelated, "RELATED"},
		{StateEstablished, "ESTABLISHED"},
		{StateUntracked, "UNTRACKED"},
		{StateSNAT, "SNAT"},
		{StateDNAT, "DNAT"},
	} {
		if mask&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return names
}
