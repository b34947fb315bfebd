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

// maxListed is how many values of a set a text shows.
const maxListed = 4

// String is the condition about as nft(8) lists it.
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

// source and destination are where addresses lie in the headers of IPv4 and IPv6.
func (f Field) isSource() bool {
	return f.Header == NetworkHeader && (f.Offset == 12 && f.Len <= 4 || f.Offset == 8 && f.Len > 1)
}

func (f Field) isDestination() bool {
	return f.Header == NetworkHeader && (f.Offset == 16 && f.Len <= 4 || f.Offset == 24)
}

func (f Field) isAddress() bool { return f.isSource() || f.isDestination() }

// text words a value of the field.
func (f Field) text(v, mask []byte) string {
	switch {
	case f.Name == inLink || f.Name == outLink || f.Name == portIn || f.Name == portOut:
		if name, exact := linkText(v); exact {
			return strconv.Quote(name)
		}
		return strconv.Quote(string(v) + "*")
	case f.isAddress():
		return f.addressText(v, mask)
	case f.Name == l4Proto || f.Header == NetworkHeader && f.Offset == 9 && len(v) == 1:
		return protocolText(v[0])
	case f.Name == nfProto && len(v) == 1:
		return pick(v[0] == 2, "ipv4", "ipv6")
	case f.Name == srcType || f.Name == dstType:
		return addressTypes[nativeValue(v)]
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

// linkText is a link's name; exact is false for the beginning of one.
func linkText(v []byte) (name string, exact bool) {
	name, _, exact = strings.Cut(string(v), "\x00")
	return name, exact || len(v) == 16
}

// addressText is an address or prefix. Of a prefix of whole bytes only those are compared.
func (f Field) addressText(v, mask []byte) string {
	size := pick(f.Offset == 12 || f.Offset == 16, 4, 16)
	full := make([]byte, size)
	copy(full, v)
	addr, _ := netip.AddrFromSlice(full)
	n := 8 * len(v)
	if mask != nil {
		n = maskBits(mask)
	}
	if n == 8*size {
		return addr.String()
	}
	return netip.PrefixFrom(addr, n).String()
}

var addressTypes = map[uint32]string{1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

var protocols = map[byte]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}

func protocolText(p byte) string {
	if name := protocols[p]; name != "" {
		return name
	}
	return strconv.Itoa(int(p))
}

// stateWords words "ct state & MASK != 0".
func (m Match) stateWords() (string, bool) {
	if len(m.Fields) != 1 || m.Fields[0].Name != ctState || len(m.Mask) != 4 || len(m.Any) != 1 || nativeValue(m.Any[0].Low) != 0 {
		return "", false
	}
	words := strings.ToLower(strings.Join(stateNames(nativeValue(m.Mask)), ","))
	return pick(m.Not, "", "! ") + words, true
}

// stateNames are iptables' words, in its order.
func stateNames(mask uint32) []string {
	var names []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{
		{stateInvalid, "INVALID"},
		{stateNew, "NEW"},
		{stateRelated, "RELATED"},
		{stateEstablished, "ESTABLISHED"},
		{stateUntracked, "UNTRACKED"},
		{stateSNAT, "SNAT"},
		{stateDNAT, "DNAT"},
	} {
		if mask&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return names
}

// xtFlags are the conditions of an iptables rule that its command line has flags for.
type xtFlags struct {
	source, destination, in, out, proto string
	other                               []string
}

func (x *xtFlags) add(m Match) {
	if len(m.Fields) != 1 || len(m.Any) != 1 {
		x.other = append(x.other, "["+m.String()+"]")
		return
	}
	f, v := m.Fields[0], m.Any[0].Low
	not := pick(m.Not, "! ", "")
	switch {
	case f.isSource():
		x.source = not + "-s " + withLength(f.addressText(v, m.Mask))
	case f.isDestination():
		x.destination = not + "-d " + withLength(f.addressText(v, m.Mask))
	case f.Name == inLink:
		x.in = not + "-i " + xtLink(v)
	case f.Name == outLink:
		x.out = not + "-o " + xtLink(v)
	case f.Name == l4Proto:
		x.proto = not + "-p " + protocolText(v[0])
	case f.Header == TransportHeader && x.proto != "":
		x.transport(f, m)
	case f.Name == mark:
		x.other = append(x.other, markText("mark", m))
	default:
		x.other = append(x.other, "["+m.String()+"]")
	}
}

// transport words what iptables-nft compares itself of the module named as the protocol.
func (x *xtFlags) transport(f Field, m Match) {
	module := strings.TrimPrefix(x.proto, "-p ")
	low, high := m.Any[0].Low, m.Any[0].High
	var words string
	switch {
	case f.Offset == 13 && len(m.Mask) == 1:
		words = " " + pick(m.Not, "! ", "") + "--tcp-flags " + tcpFlags(m.Mask[0]) + " " + tcpFlags(low[0])
	case f.Offset == 0 && f.Len == 4 && bytes.Equal(low, high):
		words = portText("sport", low[:2], high[:2], m.Not) + portText("dport", low[2:], high[2:], m.Not)
	case f.Offset == 0 && f.Len == 2:
		words = portText("sport", low, high, m.Not)
	case f.Offset == 2 && f.Len == 2:
		words = portText("dport", low, high, m.Not)
	default:
		x.other = append(x.other, "["+m.String()+"]")
		return
	}
	if n := len(x.other) - 1; n >= 0 && strings.HasPrefix(x.other[n], "-m "+module+" ") {
		x.other[n] += words
		return
	}
	x.other = append(x.other, "-m "+module+words)
}

// portText words a port or a range of ports.
func portText(option string, low, high []byte, not bool) string {
	a, b := binary.BigEndian.Uint16(low), binary.BigEndian.Uint16(high)
	words := " " + pick(not, "! ", "") + "--" + option + " " + strconv.Itoa(int(a))
	if a != b {
		words += ":" + strconv.Itoa(int(b))
	}
	return words
}

func tcpFlags(v byte) string {
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if v&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "NONE"
	}
	return strings.Join(names, ",")
}

// markText words a condition on a mark.
func markText(module string, m Match) string {
	words := fmt.Sprintf("-m %s %s--mark 0x%x", module, pick(m.Not, "! ", ""), nativeValue(m.Any[0].Low))
	if m.Mask != nil && nativeValue(m.Mask) != ^uint32(0) {
		words += fmt.Sprintf("/0x%x", nativeValue(m.Mask))
	}
	return words
}

// withLength writes the length of a single address too, as iptables-save does.
func withLength(address string) string {
	if a, err := netip.ParseAddr(address); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return address
}

// xtLink is a link as iptables writes it: "eth+" for all that begin so.
func xtLink(v []byte) string {
	name, exact := linkText(v)
	return name + pick(exact, "", "+")
}

// rule is a rule as iptables-save lists it; words are what is said of its matches
// and its target.
func (x *xtFlags) rule(chain string, r Rule, words []string) string {
	list := []string{"-A", chain}
	for _, w := range append([]string{x.source, x.destination, x.in, x.out, x.proto}, append(x.other, words...)...) {
		if w != "" {
			list = append(list, w)
		}
	}
	switch r.Verdict {
	case Jump:
		list = append(list, "-j "+r.Chain)
	case Goto:
		list = append(list, "-g "+r.Chain)
	case Accept, Discard, Return:
		if !strings.HasPrefix(list[len(list)-1], "-j ") { // else a target that accepts, such as MASQUERADE
			list = append(list, "-j "+strings.ToUpper(string(r.Verdict)))
		}
	}
	return strings.Join(list, " ")
}
