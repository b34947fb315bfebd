package read

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// xtModule is a match or a target of xtables, which iptables-nft and iptables-legacy
// share: a name, a revision and a C structure.
type xtModule struct {
	name string
	rev  uint32
	info []byte
}

// xt decodes a "match" or "target" expression.
func (d *decoder) xt(kind string, data []byte) {
	var x xtModule
	for _, a := range nested(data) {
		switch a.Type {
		case unix.NFTA_MATCH_NAME:
			x.name = text(a.Data)
		case unix.NFTA_MATCH_REV:
			x.rev = number(a.Data)
		case unix.NFTA_MATCH_INFO:
			x.info = a.Data
		}
	}
	if kind == "target" {
		d.words = append(d.words, x.target(&d.rule)...)
		return
	}
	matches, words, comment := x.match()
	d.rule.Matches = append(d.rule.Matches, matches...)
	d.words = append(d.words, words)
	if comment != "" {
		d.rule.Comment = comment
	}
}

// xtAccepts are targets that end the packet's way through the base chain and let it pass.
var xtAccepts = map[string]bool{
	"MASQUERADE": true, "SNAT": true, "DNAT": true, "REDIRECT": true, "NETMAP": true, "TPROXY": true, "ACCEPT": true,
}

// xtEffects are targets that change or report a packet, which then meets the next rule.
var xtEffects = map[string]bool{
	"LOG": true, "NFLOG": true, "ULOG": true, "MARK": true, "CONNMARK": true, "CONNSECMARK": true, "SECMARK": true,
	"TCPMSS": true, "TOS": true, "DSCP": true, "TTL": true, "HL": true, "CHECKSUM": true, "CT": true, "NOTRACK": true,
	"TRACE": true, "CLASSIFY": true, "SET": true, "AUDIT": true, "RATEEST": true, "TCPOPTSTRIP": true, "ECN": true, "LED": true,
}

// target sets the rule's verdict and returns the words of iptables-save for it.
func (x xtModule) target(r *filters.Rule) []string {
	switch {
	case x.name == "REJECT":
		r.Verdict = filters.Reject
		return []string{"-j REJECT" + rejectWith(x.info)}
	case x.name == "DROP":
		r.Verdict = filters.Discard
		return nil
	case x.untracks():
		r.Untracks = true
		return []string{"-j CT --notrack"}
	case x.name == "NFQUEUE" || x.name == "QUEUE":
		r.Verdict = filters.Queue
	case xtAccepts[x.name]:
		r.Verdict, r.Redirects = filters.Accept, xtRedirects[x.name]
	case !xtEffects[x.name]:
		r.Verdict = filters.Unknown
	}
	return []string{"-j " + x.name}
}

// untracks reports whether a target keeps packets from being tracked: NOTRACK, or CT with
// XT_CT_NOTRACK among the flags that struct xt_ct_target_info begins with.
func (x xtModule) untracks() bool {
	return x.name == "NOTRACK" || x.name == "CT" && len(x.info) >= 2 && binary.NativeEndian.Uint16(x.info)&1 != 0
}

// rejectWith words struct ipt_reject_info with the names of IPv4.
func rejectWith(info []byte) string {
	if len(info) < 4 {
		return ""
	}
	names := []string{
		"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
		"", "icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset", "icmp-admin-prohibited",
	}
	if n := nativeNumber(info); int(n) < len(names) && names[n] != "" {
		return " --reject-with " + names[n]
	}
	return ""
}

// match returns the conditions of a module and the words of iptables-save for it. A
// module that is not understood is one condition that may hold.
func (x xtModule) match() (list []filters.Match, words, comment string) {
	decode, ok := xtMatches[x.name]
	if ok {
		list, words, ok = decode(x)
	}
	if x.name == "comment" {
		comment = text(cut(x.info))
		return nil, "-m comment --comment " + quoted(comment), comment
	}
	if !ok {
		return []filters.Match{{}}, fmt.Sprintf("-m %s [not understood]", x.name), ""
	}
	return list, words, ""
}

// cut is a C string without its zero byte and what follows.
func cut(b []byte) []byte {
	s, _, _ := strings.Cut(string(b), "\x00")
	return []byte(s)
}

// quoted quotes a text as iptables-save does: unless it is letters, digits, - and _.
func quoted(s string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// xtRedirects are the targets that give a packet another destination.
var xtRedirects = map[string]bool{"DNAT": true, "REDIRECT": true, "NETMAP": true, "TPROXY": true}

// xtMatches decode the modules that are understood (linux/netfilter/xt_*.h). Each
// returns conditions and words, and false for a form that it does not understand.
var xtMatches = map[string]func(xtModule) ([]filters.Match, string, bool){
	"conntrack": xtConntrack,
	"state":     xtState,
	"tcp":       xtTCP,
	"udp":       xtUDP,
	"multiport": xtMultiport,
	"icmp":      xtICMP,
	"icmp6":     xtICMP,
	"addrtype":  xtAddrtype,
	"mark":      xtMark,
	"connmark":  xtMark,
	"pkttype":   xtPkttype,
	"rpfilter":  xtRPFilter,
	"physdev":   xtPhysdev,
}

// xtConntrack decodes struct xt_conntrack_mtinfo3 where it asks for the state alone.
func xtConntrack(x xtModule) ([]filters.Match, string, bool) {
	const matchFlags, stateMask = 146, 150
	if x.rev != 3 && x.rev != 2 || len(x.info) < stateMask+2 {
		return nil, "", false
	}
	flags := binary.NativeEndian.Uint16(x.info[matchFlags:])
	inverted := binary.NativeEndian.Uint16(x.info[matchFlags+2:])&1 != 0
	if flags&^(1<<13) != 1 { // XT_CONNTRACK_STATE, apart from XT_CONNTRACK_STATE_ALIAS
		return nil, "", false
	}
	raw := uint32(binary.NativeEndian.Uint16(x.info[stateMask:]))
	mask := raw & 0xf
	for from, to := range map[uint32]uint32{1 << 6: filters.StateSNAT, 1 << 7: filters.StateDNAT, 1 << 8: filters.StateUntracked} {
		if raw&from != 0 {
			mask |= to
		}
	}
	return []filters.Match{filters.AnyBit(filters.CTState, mask, inverted)}, stateText(flags, inverted, mask), true
}

func stateText(flags uint16, not bool, mask uint32) string {
	option := pick(flags&(1<<13) != 0, "-m state "+pick(not, "! ", "")+"--state ", "-m conntrack "+pick(not, "! ", "")+"--ctstate ")
	return option + strings.Join(filters.StateNames(mask), ",")
}

// xtState decodes struct xt_state_info, the older form of conntrack.
func xtState(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 4 {
		return nil, "", false
	}
	mask := nativeNumber(x.info) & 0xf
	return []filters.Match{filters.AnyBit(filters.CTState, mask, false)}, stateText(1<<13, false, mask), true
}

func transport(offset, size int) []filters.Field {
	return []filters.Field{{Header: filters.TransportHeader, Offset: offset, Len: size}}
}

// ports is the condition on a range of ports, none for all ports.
func ports(name string, offset int, low, high uint16, not bool) ([]filters.Match, string) {
	if low == 0 && high == 0xffff {
		return nil, ""
	}
	r := span(binary.BigEndian.AppendUint16(nil, low), binary.BigEndian.AppendUint16(nil, high))
	return []filters.Match{{Fields: transport(offset, 2), Any: []filters.Range{r}, Not: not}}, portText(name, r.Low, r.High, not)
}

// xtTCP decodes struct xt_tcp.
func xtTCP(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 12 || x.info[8] != 0 { // it asks for a TCP option
		return nil, "", false
	}
	inv := x.info[11]
	list, words := portPairs(x.info, inv)
	if mask, value := x.info[9], x.info[10]; mask != 0 {
		not := inv&4 != 0
		list = append(list, filters.Match{Fields: transport(13, 1), Mask: []byte{mask}, Any: []filters.Range{exactly([]byte{value})}, Not: not})
		words += " " + pick(not, "! ", "") + "--tcp-flags " + tcpFlags(mask) + " " + tcpFlags(value)
	}
	return list, "-m tcp" + words, true
}

func portPairs(info []byte, inv byte) ([]filters.Match, string) {
	n := func(at int) uint16 { return binary.NativeEndian.Uint16(info[at:]) }
	list, words := ports("sport", 0, n(0), n(2), inv&1 != 0)
	more, moreWords := ports("dport", 2, n(4), n(6), inv&2 != 0)
	return append(list, more...), words + moreWords
}

// xtUDP decodes struct xt_udp.
func xtUDP(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 9 {
		return nil, "", false
	}
	list, words := portPairs(x.info, x.info[8])
	return list, "-m udp" + words, true
}

// xtMultiport decodes struct xt_multiport_v1.
func xtMultiport(x xtModule) ([]filters.Match, string, bool) {
	if x.rev != 1 || len(x.info) < 48 || x.info[0] > 1 || int(x.info[1]) > 15 {
		return nil, "", false
	}
	m := filters.Match{Fields: transport(pick(x.info[0] == 1, 2, 0), 2), Not: x.info[47] != 0}
	var list []string
	for i := 0; i < int(x.info[1]); i++ {
		low := binary.NativeEndian.Uint16(x.info[2+2*i:])
		high, word := low, strconv.Itoa(int(low))
		if x.info[32+i] != 0 { // this port begins a range
			i++
			high = binary.NativeEndian.Uint16(x.info[2+2*i:])
			word += ":" + strconv.Itoa(int(high))
		}
		list = append(list, word)
		m.Any = append(m.Any, span(binary.BigEndian.AppendUint16(nil, low), binary.BigEndian.AppendUint16(nil, high)))
	}
	option := pick(x.info[0] == 1, "--dports ", "--sports ")
	return []filters.Match{m}, "-m multiport " + pick(m.Not, "! ", "") + option + strings.Join(list, ","), true
}

// xtICMP decodes struct ipt_icmp and struct ip6t_icmp.
func xtICMP(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 4 {
		return nil, "", false
	}
	not := x.info[3]&1 != 0
	option := pick(x.name == "icmp", "-m icmp ", "-m icmp6 ") + pick(not, "! ", "") + pick(x.name == "icmp", "--icmp-type ", "--icmpv6-type ")
	if x.info[0] == 0xff && x.name == "icmp" {
		return nil, option + "any", true
	}
	words := option + strconv.Itoa(int(x.info[0]))
	if x.info[1] == x.info[2] {
		words += "/" + strconv.Itoa(int(x.info[1]))
	}
	r := exactly(x.info[:1])
	return []filters.Match{{Fields: transport(0, 1), Any: []filters.Range{r}, Not: not}}, words, true
}

// xtAddrtype decodes struct xt_addrtype_info_v1. Its masks have a bit for each RTN_*.
func xtAddrtype(x xtModule) ([]filters.Match, string, bool) {
	if x.rev != 1 || len(x.info) < 8 {
		return nil, "", false
	}
	flags := nativeNumber(x.info[4:])
	if flags&^3 != 0 { // it asks about one link only
		return nil, "", false
	}
	words := "-m addrtype"
	var list []filters.Match
	for i, side := range []struct{ field, option string }{{filters.SrcType, "src-type"}, {filters.DstType, "dst-type"}} {
		mask := binary.NativeEndian.Uint16(x.info[2*i:])
		if mask == 0 {
			continue
		}
		not := flags&(1<<i) != 0
		m := filters.Match{Fields: []filters.Field{{Name: side.field, Len: 4}}, Not: not}
		var names []string
		for n := range uint32(12) {
			if mask&(1<<n) != 0 {
				m.Any = append(m.Any, exactly(native(n)))
				names = append(names, strings.ToUpper(filters.AddressTypeText(n)))
			}
		}
		list = append(list, m)
		words += " " + pick(not, "! ", "") + "--" + side.option + " " + strings.Join(names, ",")
	}
	return list, words, true
}

// xtMark decodes struct xt_mark_mtinfo1, which equals that of connmark.
func xtMark(x xtModule) ([]filters.Match, string, bool) {
	if x.rev != 1 || len(x.info) < 9 {
		return nil, "", false
	}
	v, mask, not := x.info[:4], x.info[4:8], x.info[8] != 0
	m := filters.Match{Fields: []filters.Field{{Name: pick(x.name == "mark", filters.MetaMark, filters.CTMark), Len: 4}}, Mask: mask, Any: []filters.Range{exactly(v)}, Not: not}
	return []filters.Match{m}, markText(x.name, m), true
}

// xtPkttype decodes struct xt_pkttype_info.
func xtPkttype(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 8 {
		return nil, "", false
	}
	v := byte(nativeNumber(x.info))
	not := nativeNumber(x.info[4:]) != 0
	names := map[byte]string{0: "unicast", 1: "broadcast", 2: "multicast"}
	return []filters.Match{{Fields: []filters.Field{{Name: filters.PktType, Len: 1}}, Any: []filters.Range{exactly([]byte{v})}, Not: not}},
		"-m pkttype " + pick(not, "! ", "") + "--pkt-type " + names[v], true
}

// xtRPFilter decodes struct xt_rpfilter_info: the source has a route back.
func xtRPFilter(x xtModule) ([]filters.Match, string, bool) {
	if len(x.info) < 1 {
		return nil, "", false
	}
	words := "-m rpfilter"
	for i, option := range []string{" --loose", " --validmark", " --accept-local", " --invert"} {
		if x.info[0]&(1<<i) != 0 {
			words += option
		}
	}
	none := exactly(native(0))
	return []filters.Match{{Fields: []filters.Field{{Name: filters.SrcRoute, Len: 4}}, Any: []filters.Range{none}, Not: x.info[0]&8 == 0}}, words, true
}

// xtPhysdev decodes struct xt_physdev_info: two names with their masks, then bits for
// what is inverted and what it asks for (XT_PHYSDEV_OP_*).
func xtPhysdev(x xtModule) ([]filters.Match, string, bool) {
	const in, out, isBridged = 1, 2, 4
	if len(x.info) < 66 {
		return nil, "", false
	}
	inverted, asked := x.info[64], x.info[65]
	if asked&^(in|out|isBridged) != 0 {
		return nil, "", false
	}
	var list []filters.Match
	words := "-m physdev"
	add := func(bit byte, f filters.Field, v []byte, option string) {
		if asked&bit == 0 {
			return
		}
		not := inverted&bit != 0
		list = append(list, filters.Match{Fields: []filters.Field{f}, Any: []filters.Range{exactly(v)}, Not: not})
		words += " " + pick(not, "! ", "") + option
	}
	name := func(at int) []byte { return x.info[at : at+ones(x.info[at+16:at+32])] }
	add(in, filters.Field{Name: filters.PortIn, Len: 16}, name(0), "--physdev-in "+xtLink(name(0)))
	add(out, filters.Field{Name: filters.PortOut, Len: 16}, name(32), "--physdev-out "+xtLink(name(32)))
	add(isBridged, filters.Field{Name: filters.Bridged, Len: 1}, []byte{1}, "--physdev-is-bridged")
	return list, words, true
}
