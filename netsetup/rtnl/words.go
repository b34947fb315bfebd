package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GenModeWords are ip-link(8)'s for addr_gen_mode.
var GenModeWords = map[string]string{"0": "eui64", "1": "none", "2": "stable_secret", "3": "random"}

func FamilyFlag(family int) string {
	if family == unix.AF_INET6 {
		return "-6 "
	}
	return ""
}

// AddCommand adds an address of link to another, or to itself.
func AddCommand(a Address, link, to string) string {
	if !a.Checked() {
		return "ip addr add " + a.AsOn(link, to, a.Flags())
	}
	return "ip addr add " + a.AsOn(link, to, a.Flags()&^unix.IFA_F_MANAGETEMPADDR|unix.IFA_F_NODAD)
}

func (a Address) AsOn(link, to string, flags uint32) string {
	words := a.words(flags)
	if label := a.Labelled(link, to, nil); label != "" && label != to {
		words += " label " + label
	}
	if l := a.Lifetimes(); l != (Lifetimes{Forever, Forever}) {
		words += fmt.Sprintf(" valid_lft %s preferred_lft %s", seconds(l.Valid), seconds(l.Preferred))
	}
	return words + " dev " + to
}

func seconds(v uint32) string {
	if v == Forever {
		return "forever"
	}
	return strconv.FormatUint(uint64(v), 10)
}

func DelCommand(a Address, link string) string {
	words := a.Prefix().String()
	if p, ok := a.Peer(); ok {
		words = fmt.Sprintf("%s peer %s/%d", a.Local(), p, a.Bits())
	}
	return fmt.Sprintf("ip addr del %s dev %s", words, link)
}

// flagWords are those ip-address(8) takes.
var flagWords = []struct {
	flag uint32
	word string
}{
	{unix.IFA_F_NODAD, "nodad"},
	{unix.IFA_F_HOMEADDRESS, "home"},
	{unix.IFA_F_MANAGETEMPADDR, "mngtmpaddr"},
	{unix.IFA_F_NOPREFIXROUTE, "noprefixroute"},
	{unix.IFA_F_MCAUTOJOIN, "autojoin"},
}

// words are an address as ip-address(8) takes it.
func (a Address) words(flags uint32) string {
	words := a.Prefix().String()
	if p, ok := a.Peer(); ok {
		words = fmt.Sprintf("%s peer %s/%d", a.Local(), p, a.Bits())
	}
	if b := a.Addr(AddrKind, unix.IFA_BROADCAST); b.IsValid() {
		words += " broadcast " + b.String()
	}
	if a.Family() == unix.AF_INET && a.scope() != unix.RT_SCOPE_UNIVERSE {
		words += " scope " + scopeWord(a.scope())
	}
	if m := a.u32(AddrKind, unix.IFA_RT_PRIORITY); m != 0 {
		words += fmt.Sprintf(" metric %d", m)
	}
	for _, f := range flagWords {
		if flags&f.flag != 0 {
			words += " " + f.word
		}
	}
	return words
}

func scopeWord(scope byte) string {
	switch scope {
	case unix.RT_SCOPE_LINK:
		return "link"
	case unix.RT_SCOPE_HOST:
		return "host"
	case unix.RT_SCOPE_UNIVERSE:
		return "global"
	}
	return strconv.Itoa(int(scope))
}

var classWords = map[byte]string{
	unix.RTN_LOCAL: "local ", unix.RTN_BROADCAST: "broadcast ", unix.RTN_ANYCAST: "anycast ", unix.RTN_MULTICAST: "multicast ",
	unix.RTN_BLACKHOLE: "blackhole ", unix.RTN_UNREACHABLE: "unreachable ", unix.RTN_PROHIBIT: "prohibit ", unix.RTN_THROW: "throw ",
}

// Words are a route as ip-route(8) takes it.
func (r Route) Words(name func(index int) string) string {
	words := classWords[r.Class()]
	if r.Dst().Bits() == 0 {
		words += "default"
	} else {
		words += r.Dst().String()
	}
	if src := r.Addr(BodyKind, unix.RTA_SRC); src.IsValid() {
		words += fmt.Sprintf(" from %s/%d", src, r.Raw[2])
	}
	if r.tos() != 0 {
		words += fmt.Sprintf(" tos 0x%x", r.tos())
	}
	if r.attr(BodyKind, unix.RTA_OIF) != nil {
		words += viaWords(Attrs(r.Raw[BodyKind:])) + " dev " + name(int(r.u32(BodyKind, unix.RTA_OIF)))
		words += onlinkWord(binary.NativeEndian.Uint32(r.Raw[8:]))
	}
	if r.Table() != unix.RT_TABLE_MAIN {
		words += fmt.Sprintf(" table %d", r.Table())
	}
	if r.Protocol() != unix.RTPROT_BOOT {
		words += fmt.Sprintf(" proto %d", r.Protocol())
	}
	if r.Family() == unix.AF_INET && r.Scope() != unix.RT_SCOPE_UNIVERSE {
		words += " scope " + scopeWord(r.Scope())
	}
	if src := r.Addr(BodyKind, unix.RTA_PREFSRC); src.IsValid() {
		words += " src " + src.String()
	}
	if r.Metric() != 0 {
		words += fmt.Sprintf(" metric %d", r.Metric())
	}
	return words + r.metricWords() + r.prefWords() + r.hopWords(name)
}

func onlinkWord(flags uint32) string {
	if flags&unix.RTNH_F_ONLINK != 0 {
		return " onlink"
	}
	return ""
}

func viaWords(list []Attr) string {
	for _, a := range list {
		switch a.Kind {
		case unix.RTA_GATEWAY:
			gw, _ := netip.AddrFromSlice(a.Value)
			return " via " + gw.String()
		case unix.RTA_VIA:
			gw, _ := netip.AddrFromSlice(a.Value[2:])
			return " via inet6 " + gw.String()
		}
	}
	return ""
}

// metricNames are ip-route(8)'s for the RTAX_ values (linux/rtnetlink.h).
var metricNames = map[uint16]string{
	unix.RTAX_MTU: "mtu", unix.RTAX_WINDOW: "window", unix.RTAX_RTT: "rtt", unix.RTAX_RTTVAR: "rttvar", unix.RTAX_SSTHRESH: "ssthresh",
	unix.RTAX_CWND: "cwnd", unix.RTAX_ADVMSS: "advmss", unix.RTAX_REORDERING: "reordering", unix.RTAX_HOPLIMIT: "hoplimit",
	unix.RTAX_INITCWND: "initcwnd", unix.RTAX_FEATURES: "features", unix.RTAX_RTO_MIN: "rto_min", unix.RTAX_INITRWND: "initrwnd",
	unix.RTAX_QUICKACK: "quickack",
}

func (r Route) metricWords() string {
	var words string
	list := Attrs(r.attr(BodyKind, unix.RTA_METRICS))
	locked := uint32(0)
	for _, a := range list {
		if a.Kind == unix.RTAX_LOCK {
			locked = binary.NativeEndian.Uint32(a.Value)
		}
	}
	for _, a := range list {
		name := metricNames[a.Kind]
		if name == "" || len(a.Value) < 4 {
			continue
		}
		v, lock, unit := binary.NativeEndian.Uint32(a.Value), "", ""
		if locked&(1<<a.Kind) != 0 {
			lock = "lock "
		}
		switch a.Kind { // the kernel counts in parts of a millisecond
		case unix.RTAX_RTT:
			v, unit = v/8, "ms"
		case unix.RTAX_RTTVAR:
			v, unit = v/4, "ms"
		case unix.RTAX_RTO_MIN:
			unit = "ms"
		}
		words += fmt.Sprintf(" %s %s%d%s", name, lock, v, unit)
	}
	return words
}

func (r Route) prefWords() string {
	var words string
	if s := r.Expires(); s != 0 {
		words += fmt.Sprintf(" expires %d", s)
	}
	if v := r.attr(BodyKind, unix.RTA_PREF); len(v) > 0 && v[0] != 0 {
		words += " pref " + map[byte]string{1: "high", 3: "low"}[v[0]]
	}
	if flow := r.u32(BodyKind, unix.RTA_FLOW); flow != 0 {
		words += fmt.Sprintf(" realms %d/%d", flow>>16, flow&0xffff)
	}
	return words
}

func (r Route) hopWords(name func(int) string) string {
	var words string
	for _, h := range r.Hops() {
		words += " nexthop" + viaWords(Attrs(h.Attrs)) + " dev " + name(h.Index) + fmt.Sprintf(" weight %d", int(h.weight)+1) + onlinkWord(uint32(h.flags))
	}
	return words
}

// Command is the rule as ip-rule(8) takes it.
func (r Rule) Command(verb string) string {
	words := "ip " + FamilyFlag(r.family()) + "rule " + verb
	if binary.NativeEndian.Uint32(r.Raw[8:])&unix.FIB_RULE_INVERT != 0 {
		words += " not"
	}
	for _, end := range []struct {
		word string
		attr uint16
		bits byte
	}{{"from", unix.FRA_SRC, r.Raw[2]}, {"to", unix.FRA_DST, r.Raw[1]}} {
		if a := r.Addr(BodyKind, end.attr); a.IsValid() {
			words += fmt.Sprintf(" %s %s/%d", end.word, a, end.bits)
		}
	}
	if m := r.attr(BodyKind, unix.FRA_FWMARK); m != nil {
		words += fmt.Sprintf(" fwmark 0x%x/0x%x", r.u32(BodyKind, unix.FRA_FWMARK), r.u32(BodyKind, unix.FRA_FWMASK))
	}
	for _, end := range []struct {
		word string
		attr uint16
	}{{"iif", unix.FRA_IIFNAME}, {"oif", unix.FRA_OIFNAME}} {
		if l := r.Text(BodyKind, end.attr); l != "" {
			words += fmt.Sprintf(" %s %s", end.word, l)
		}
	}
	words += fmt.Sprintf(" priority %d", r.u32(BodyKind, unix.FRA_PRIORITY))
	switch r.Raw[7] {
	case unix.FR_ACT_TO_TBL:
		words += fmt.Sprintf(" lookup %d", r.u32(BodyKind, unix.FRA_TABLE))
	case unix.FR_ACT_GOTO:
		words += fmt.Sprintf(" goto %d", r.u32(BodyKind, unix.FRA_GOTO))
	default:
		words += " " + strings.TrimSpace(map[byte]string{unix.FR_ACT_BLACKHOLE: "blackhole", unix.FR_ACT_UNREACHABLE: "unreachable", unix.FR_ACT_PROHIBIT: "prohibit", unix.FR_ACT_NOP: "nop"}[r.Raw[7]])
	}
	return words
}
