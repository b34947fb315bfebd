package rtnl

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// familyFlag returns ip(8)'s option for a family, with a space behind it.
func familyFlag(family int) string {
	if family == unix.AF_INET6 {
		return "-6 "
	}
	return ""
}

var typeWords = map[byte]string{
	unix.RTN_LOCAL: "local ", unix.RTN_BROADCAST: "broadcast ", unix.RTN_ANYCAST: "anycast ", unix.RTN_MULTICAST: "multicast ",
	unix.RTN_BLACKHOLE: "blackhole ", unix.RTN_UNREACHABLE: "unreachable ", unix.RTN_PROHIBIT: "prohibit ", unix.RTN_THROW: "throw ",
}

// Command returns the command with that verb, such as "append", for the route; name
// returns the name of a link by its index.
//
//	ip route append default via 192.0.2.1 dev qn-lan
func (r Route) Command(verb string, name func(link int) string) string {
	words := "ip " + familyFlag(r.Family()) + "route " + verb + " " + typeWords[r.Type()] + r.keyWords() + r.linkWords(name)
	if r.Table() != unix.RT_TABLE_MAIN {
		words += fmt.Sprintf(" table %d", r.Table())
	}
	if r.Protocol() != unix.RTPROT_BOOT {
		words += fmt.Sprintf(" proto %d", r.Protocol())
	}
	if r.Family() == unix.AF_INET && r.Scope() != unix.RT_SCOPE_UNIVERSE {
		words += " scope " + scopeWord(r.Scope())
	}
	if src := r.addr(routeHeader, unix.RTA_PREFSRC); src.IsValid() {
		words += " src " + src.String()
	}
	if r.Metric() != 0 {
		words += fmt.Sprintf(" metric %d", r.Metric())
	}
	return words + r.metricWords() + r.prefWords() + r.hopWords(name)
}

// keyWords are those that tell routes of a table apart.
func (r Route) keyWords() string {
	words := r.Dst().String()
	if r.Dst().Bits() == 0 {
		words = "default"
	}
	if src := r.addr(routeHeader, unix.RTA_SRC); src.IsValid() {
		words += fmt.Sprintf(" from %s/%d", src, r.Message[2])
	}
	if r.TOS() != 0 {
		words += fmt.Sprintf(" tos 0x%x", r.TOS())
	}
	return words
}

// linkWords are the gateway and the link of a route with one nexthop.
func (r Route) linkWords(name func(link int) string) string {
	if r.attr(routeHeader, unix.RTA_OIF) == nil {
		return ""
	}
	link := int(r.uint32(routeHeader, unix.RTA_OIF))
	return viaWords(r.Message[routeHeader:]) + " dev " + name(link) + onlinkWord(r.flags())
}

func onlinkWord(flags uint32) string {
	if flags&unix.RTNH_F_ONLINK != 0 {
		return " onlink"
	}
	return ""
}

func viaWords(nexthop Message) string {
	gw := gateway(nexthop)
	switch {
	case !gw.IsValid():
		return ""
	case nexthop.attr(0, unix.RTA_VIA) != nil:
		return " via inet6 " + gw.String()
	}
	return " via " + gw.String()
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
	list := Attrs(r.attr(routeHeader, unix.RTA_METRICS))
	locked := uint32(0)
	if v := find(list, unix.RTAX_LOCK); len(v) == 4 {
		locked = binary.NativeEndian.Uint32(v)
	}
	for _, a := range list {
		name := metricNames[a.Type]
		if name == "" || len(a.Value) != 4 {
			continue
		}
		lock := ""
		if locked&(1<<a.Type) != 0 && a.Type != unix.RTAX_RTO_MIN { // ip locks that one by itself
			lock = "lock "
		}
		words += " " + name + " " + lock + metricValue(a.Type, binary.NativeEndian.Uint32(a.Value))
	}
	return words
}

// metricValue returns a metric as ip-route(8) takes it. The kernel counts round-trip
// times in parts of a millisecond.
func metricValue(kind uint16, v uint32) string {
	switch kind {
	case unix.RTAX_RTT:
		return fmt.Sprintf("%dms", v/8)
	case unix.RTAX_RTTVAR:
		return fmt.Sprintf("%dms", v/4)
	case unix.RTAX_RTO_MIN:
		return fmt.Sprintf("%dms", v)
	}
	return strconv.FormatUint(uint64(v), 10)
}

func (r Route) prefWords() string {
	var words string
	if s := r.Expires(); s != 0 {
		words += fmt.Sprintf(" expires %d", s)
	}
	if v := r.attr(routeHeader, unix.RTA_PREF); len(v) > 0 && v[0] != 0 {
		words += " pref " + map[byte]string{1: "high", 3: "low"}[v[0]]
	}
	if flow := r.uint32(routeHeader, unix.RTA_FLOW); flow != 0 {
		words += fmt.Sprintf(" realms %d/%d", flow>>16, flow&0xffff)
	}
	return words
}

func (r Route) hopWords(name func(int) string) string {
	var words string
	for _, h := range r.Hops() {
		words += " nexthop" + viaWords(h.attrs) + " dev " + name(h.Link) + fmt.Sprintf(" weight %d", int(h.weight)+1) + onlinkWord(uint32(h.flags))
	}
	return words
}
