package fib

import (
	"cmp"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// vpn is a host with a VPN: its own table first, then main without its default route.
func vpn() FIB {
	return FIB{
		Rules: []Rule{
			{Priority: 0, Table: 255, Suppress: -1},
			{Priority: 10, Narrow: true, Table: 99, Suppress: -1},
			{Priority: 15, In: "eth7", Table: 99, Suppress: -1},
			{Priority: 20, Mark: 1, Table: 99, Suppress: -1},
			{Priority: 30, Not: true, From: prefix("192.0.2.0/24"), To: prefix("198.51.100.0/24"), Goto: 60},
			{Priority: 40, Table: MainTable, Suppress: 0},
			{Priority: 50, Table: 77, Suppress: -1},
			{Priority: 60, Table: 100, Suppress: -1},
			{Priority: 32766, Table: MainTable, Suppress: -1},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Table: MainTable, Link: 2, Metric: 100},
			{Dst: prefix("0.0.0.0/0"), Table: MainTable, Link: 3, Metric: 50},
			{Dst: prefix("0.0.0.0/0"), Table: MainTable, Link: 4, Metric: 50},
			{Dst: prefix("198.51.100.0/25"), Table: MainTable, Link: 5},
			{Dst: prefix("198.51.100.0/24"), Table: 77, Link: 6},
			{Dst: prefix("0.0.0.0/0"), Table: 99, Link: 7},
			{Dst: prefix("203.0.113.0/24"), Table: 100, Throw: true},
			{Dst: prefix("203.0.113.7/32"), Table: 100},
			{Dst: prefix("10.0.0.0/8"), Table: MainTable, Link: 8, Protocol: PinProtocol},
		},
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		link, priority int
	}{
		{"the rule that suppresses default routes", "192.0.2.10", "198.51.100.7", 5, 40},
		{"the next table", "192.0.2.10", "198.51.100.200", 6, 50},
		{"over a rule by goto", "192.0.2.99", "8.8.8.8", 3, 32766},
		{"a throw route ends its table", "192.0.2.99", "203.0.113.1", 3, 32766},
		{"a blackhole is a route", "192.0.2.99", "203.0.113.7", 0, 60},
		{"the longest prefix", "192.0.2.99", "10.1.2.3", 8, 32766},
	} {
		rule, route, ok := vpn().Lookup(addr(c.from), addr(c.to))
		if !ok || route.Link != c.link || rule.Priority != c.priority {
			t.Errorf("%s: link %d by rule %d, %t; want %d by %d", c.name, route.Link, rule.Priority, ok, c.link, c.priority)
		}
	}
	if _, _, ok := (FIB{Rules: vpn().Rules}).Lookup(addr("192.0.2.1"), addr("8.8.8.8")); ok {
		t.Error("a host without routes has a route")
	}
}

func TestPartsOfAFIB(t *testing.T) {
	f := vpn()
	f.Rules = append(f.Rules, Rule{Priority: 70, To: prefix("10.0.0.0/8"), Protocol: PinProtocol})
	if got := f.Unpinned(); len(got.Routes) != len(f.Routes)-1 || len(got.Rules) != len(f.Rules)-1 {
		t.Errorf("%d routes and %d rules without pins", len(got.Routes), len(got.Rules))
	}
	if pin := f.Rules[len(f.Rules)-1]; !pin.Ours(prefix("10.9.9.9/8")) || pin.Ours(prefix("10.0.0.0/9")) || f.Rules[0].Ours(netip.Prefix{}) {
		t.Error("a pin is not known by its protocol and prefix")
	}
}

func TestRuleFact(t *testing.T) {
	rule := func(action byte, attrs ...rtnl.Attr) rtnl.Rule {
		m := rtnl.Message{unix.AF_INET, 0, 0, 0, 100, 0, 0, action, 0, 0, 0, 0}
		attrs = append(attrs, rtnl.Uint32(unix.FRA_PRIORITY, 5), rtnl.Uint32(unix.FRA_TABLE, 100), rtnl.Uint32(unix.FRA_SUPPRESS_PREFIXLEN, math.MaxUint32))
		return rtnl.Rule{Message: rtnl.Append(m, attrs...)}
	}
	bytes := func(kind uint16, v ...byte) rtnl.Attr { return rtnl.Attr{Type: kind, Value: v} }
	ports := func(first, last uint16) rtnl.Attr {
		return bytes(unix.FRA_DPORT_RANGE, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, first), last)...)
	}
	users := func(first, last uint32) rtnl.Attr {
		return bytes(unix.FRA_UID_RANGE, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, first), last)...)
	}
	prefixes := rule(unix.FR_ACT_TO_TBL, bytes(unix.FRA_SRC, 192, 0, 2, 0), bytes(unix.FRA_DST, 10, 0, 0, 0))
	prefixes.Message[1], prefixes.Message[2], prefixes.Message[8] = 8, 24, unix.FIB_RULE_INVERT
	all := Rule{Priority: 5, Table: 100, Suppress: -1}
	narrow := all
	narrow.Narrow = true
	const table = unix.FR_ACT_TO_TBL
	for _, c := range []struct {
		name string
		rule rtnl.Rule
		want Rule
	}{
		{"all packets", rule(table), all},
		{"two prefixes", prefixes, Rule{Priority: 5, Table: 100, Suppress: -1, From: prefix("192.0.2.0/24"), To: prefix("10.0.0.0/8"), Not: true}},
		{"a mark", rule(table, rtnl.Uint32(unix.FRA_FWMARK, 0x1234), rtnl.Uint32(unix.FRA_FWMASK, 0xff00)), Rule{Priority: 5, Table: 100, Suppress: -1, Mark: 0x1200}},
		{"goto", rule(unix.FR_ACT_GOTO, rtnl.Uint32(unix.FRA_GOTO, 9)), Rule{Priority: 5, Suppress: -1, Goto: 9}},
		{"a dead end", rule(unix.FR_ACT_PROHIBIT), Rule{Priority: 5, Suppress: -1, Ends: true}},
		{"the host's own packets", rule(table, rtnl.String(unix.FRA_IIFNAME, "lo")), Rule{Priority: 5, Table: 100, Suppress: -1, In: "lo"}},
		{"a link's packets", rule(table, rtnl.String(unix.FRA_IIFNAME, "eth0")), Rule{Priority: 5, Table: 100, Suppress: -1, In: "eth0"}},
		{"packets for a link", rule(table, rtnl.String(unix.FRA_OIFNAME, "eth0")), narrow},
		{"HTTPS", rule(table, ports(80, 443), bytes(unix.FRA_IP_PROTO, unix.IPPROTO_TCP)), all},
		{"another port", rule(table, ports(1, 2)), narrow},
		{"another protocol", rule(table, bytes(unix.FRA_IP_PROTO, unix.IPPROTO_UDP)), narrow},
		{"a user", rule(table, users(1000, 1000)), narrow},
		{"all users", rule(table, users(0, math.MaxUint32-1)), all},
		{"the links of a VRF", rule(table, bytes(unix.FRA_L3MDEV, 1)), narrow},
		{"what a later kernel has", rule(table, rtnl.Uint32(77, 1)), narrow},
		{"the protocol, without default routes", rule(table, bytes(unix.FRA_PROTOCOL, 113), rtnl.Uint32(unix.FRA_SUPPRESS_PREFIXLEN, 0)), Rule{Priority: 5, Table: 100, Protocol: 113}},
	} {
		if got := ruleFact(c.rule); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Of the kernel's routes, those that decide on a prefix are read.
func TestRead(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `
ip link add d0 type veth peer name d1; ip link set d0 addrgenmode none up; ip link set d1 addrgenmode none up
ip addr add 198.51.100.1/24 dev d0
ip route add 10.1.2.0/24 table 900 metric 7 proto 113 nexthop dev d0 nexthop dev eth0
ip route add blackhole 10.1.0.0/16; ip route add throw 10.1.2.3/32 table 9
ip route add 10.1.2.4/32 tos 4 dev d0; ip route add 10.1.3.0/24 dev d0; ip route add 10.0.0.0/8 dev d0 table local
ip rule add priority 5 to 10.1.2.0/24 lookup 900`)
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		d0, err := net.InterfaceByName("d0")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(prefix("10.1.2.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got.Routes, func(a, b Route) int { return cmp.Or(a.Dst.Bits()-b.Dst.Bits(), a.Table-b.Table) })
		want := []Route{
			{Dst: prefix("0.0.0.0/0"), Link: eth0.Index, Table: MainTable, Protocol: unix.RTPROT_BOOT},
			{Dst: prefix("10.0.0.0/8"), Link: d0.Index, Table: 255, Protocol: unix.RTPROT_BOOT},
			{Dst: prefix("10.1.0.0/16"), Table: MainTable, Protocol: unix.RTPROT_BOOT},
			{Dst: prefix("10.1.2.0/24"), Link: d0.Index, Table: 900, Metric: 7, Protocol: PinProtocol},
			{Dst: prefix("10.1.2.3/32"), Table: 9, Throw: true, Protocol: unix.RTPROT_BOOT},
		}
		if !slices.Equal(got.Routes, want) || len(got.Rules) != 4 || got.Rules[1].Table != 900 {
			t.Errorf("got %+v\nand rules %+v\nwant %+v", got.Routes, got.Rules, want)
		}
		if rules, err := Read(netip.Prefix{}); err != nil || len(rules.Routes) != 0 || len(rules.Rules) != 4 {
			t.Errorf("the rules alone: %+v, %v", rules, err)
		}
	})
}
