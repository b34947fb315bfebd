package read

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// xtFlags are the words of the conditions that an iptables rule has itself, without a
// module, in the order of iptables-save.
type xtFlags struct {
	source, destination, in, out, proto string
	other                               []string
}

func (x *xtFlags) add(m filters.Match) {
	if len(m.Fields) != 1 || len(m.Any) != 1 {
		x.other = append(x.other, "["+m.String()+"]")
		return
	}
	f, v := m.Fields[0], m.Any[0].Low
	not := pick(m.Not, "! ", "")
	switch {
	case f.IsSource():
		x.source = not + "-s " + withLength(f.AddressText(v, m.Mask))
	case f.IsDestination():
		x.destination = not + "-d " + withLength(f.AddressText(v, m.Mask))
	case f.Name == filters.InLink:
		x.in = not + "-i " + xtLink(v)
	case f.Name == filters.OutLink:
		x.out = not + "-o " + xtLink(v)
	case f.Name == filters.L4Proto:
		x.proto = not + "-p " + filters.ProtocolText(v[0])
	case f.Header == filters.TransportHeader && x.proto != "":
		x.transport(f, m)
	case f.Name == filters.MetaMark:
		x.other = append(x.other, markText("mark", m))
	default:
		x.other = append(x.other, "["+m.String()+"]")
	}
}

// transport words a condition on the transport header: iptables-nft compares ports and
// TCP flags itself, and lists them as the module with the protocol's name.
func (x *xtFlags) transport(f filters.Field, m filters.Match) {
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
func markText(module string, m filters.Match) string {
	words := fmt.Sprintf("-m %s %s--mark 0x%x", module, pick(m.Not, "! ", ""), nativeNumber(m.Any[0].Low))
	if m.Mask != nil && nativeNumber(m.Mask) != ^uint32(0) {
		words += fmt.Sprintf("/0x%x", nativeNumber(m.Mask))
	}
	return words
}

// withLength adds the length of the prefix to a single address, as iptables-save does.
func withLength(address string) string {
	if a, err := netip.ParseAddr(address); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return address
}

// xtLink is a link as iptables writes it: "eth+" for every name that begins with eth.
func xtLink(v []byte) string {
	name, exact := filters.LinkText(v)
	return name + pick(exact, "", "+")
}

// rule is a rule as iptables-save lists it. The words are those of its modules and its
// target.
func (x *xtFlags) rule(chain string, r filters.Rule, words []string) string {
	list := []string{"-A", chain}
	for _, w := range append([]string{x.source, x.destination, x.in, x.out, x.proto}, append(x.other, words...)...) {
		if w != "" {
			list = append(list, w)
		}
	}
	switch r.Verdict {
	case filters.Jump:
		list = append(list, "-j "+r.Chain)
	case filters.Goto:
		list = append(list, "-g "+r.Chain)
	case filters.Accept, filters.Discard, filters.Return:
		if !strings.HasPrefix(list[len(list)-1], "-j ") { // otherwise the target itself accepts, such as MASQUERADE
			list = append(list, "-j "+strings.ToUpper(string(r.Verdict)))
		}
	}
	return strings.Join(list, " ")
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func exactly(v []byte) filters.Range { return span(v, v) }

func span(low, high []byte) filters.Range { return filters.Range{Low: low, High: high} }
