package plan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
)

var (
	one, two = netip.MustParseAddr("10.77.0.10"), netip.MustParseAddr("10.77.0.200")
	pinned   = PinnedNetwork{
		Bridge: 7, Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		Guests: []netip.Addr{one, two},
	}
)

func via(dst string, table, link int) host.FIBRoute {
	return host.FIBRoute{Dst: netip.MustParsePrefix(dst), Table: table, Link: link}
}

// hostFIB routes by the main table to the network and by eth0 (2) to the rest.
func hostFIB() host.FIB {
	return host.FIB{
		Rules: []host.FIBRule{
			{Table: 255, Suppress: -1},
			{Priority: 32766, Table: host.MainTable, Suppress: -1},
			{Priority: 32767, Table: 253, Suppress: -1},
		},
		Routes: []host.FIBRoute{
			via("10.77.0.1/32", 255, 7), via("10.77.0.0/24", host.MainTable, 7), via("0.0.0.0/0", host.MainTable, 2),
		},
	}
}

// What is pinned, for each way to take addresses, and that the pins do it.
func TestPinsNeeded(t *testing.T) {
	const tun, table = 9, 51820
	rule := func(priority int, more func(*host.FIBRule)) host.FIBRule {
		r := host.FIBRule{Priority: priority, Table: table, Suppress: -1}
		if more != nil {
			more(&r)
		}
		return r
	}
	routed := []host.FIBRoute{via("0.0.0.0/0", table, tun)}
	for name, c := range map[string]struct {
		rules  []host.FIBRule
		routes []host.FIBRoute // before the host's
		want   Pins
		lost   []netip.Addr
	}{
		"nothing":             {},
		"aggregate":           {routes: []host.FIBRoute{via("10.0.0.0/8", host.MainTable, tun), via("0.0.0.0/1", host.MainTable, tun)}},
		"same prefix, later":  {routes: []host.FIBRoute{{Dst: pinned.Prefix, Table: host.MainTable, Link: tun, Metric: 50}}},
		"same prefix, first":  {routes: []host.FIBRoute{via("10.77.0.0/24", host.MainTable, tun)}, want: Pins{Guests: []netip.Addr{one, two}}},
		"half":                {routes: []host.FIBRoute{via("10.77.0.128/25", host.MainTable, tun)}, want: Pins{Guests: []netip.Addr{two}}},
		"table without rule":  {routes: routed},
		"rule":                {rules: []host.FIBRule{rule(100, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rules":               {rules: []host.FIBRule{rule(100, nil), rule(200, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule to a guest":     {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.To = netip.PrefixFrom(two, 32) })}, routes: routed, want: Pins{Guests: []netip.Addr{two}, Rules: []int{99}}},
		"rule from the LAN":   {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.From = netip.MustParsePrefix("192.0.2.0/24") })}, routes: routed},
		"rule from gateway":   {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.From = netip.MustParsePrefix("10.77.0.1/32") })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for marked":     {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.Mark = 1 })}, routes: routed},
		"rule for unmarked":   {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.Mark, r.Not = 1, true })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for a user":     {rules: []host.FIBRule{rule(100, func(r *host.FIBRule) { r.Narrow = true })}, routes: routed},
		"goto over the rule":  {rules: []host.FIBRule{{Priority: 50, Goto: 32766, Suppress: -1}, rule(100, nil)}, routes: routed},
		"throw":               {rules: []host.FIBRule{rule(100, nil)}, routes: []host.FIBRoute{{Dst: pinned.Prefix, Table: table, Throw: true}, routed[0]}},
		"wg-quick":            {rules: []host.FIBRule{{Priority: 99, Table: host.MainTable}, rule(100, nil)}, routes: routed},
		"rule of priority 0":  {rules: []host.FIBRule{rule(0, nil)}, routes: routed, lost: []netip.Addr{one, two}},
		"the host's own":      {routes: []host.FIBRoute{via("10.77.0.10/32", 255, 1)}, lost: []netip.Addr{one}},
		"blackhole":           {routes: []host.FIBRoute{via("10.77.0.8/29", host.MainTable, 0)}, want: Pins{Guests: []netip.Addr{one}}},
		"pinned already, not": {routes: []host.FIBRoute{{Dst: netip.PrefixFrom(one, 32), Table: host.MainTable, Link: 7, Protocol: host.PinProtocol}}},
	} {
		f := hostFIB()
		f.Rules = slices.Concat(f.Rules[:1], c.rules, f.Rules[1:])
		f.Routes = slices.Concat(c.routes, f.Routes)
		need, takers, lost := pinned.Needed(f)
		if !slices.Equal(need.Guests, c.want.Guests) || !slices.Equal(need.Rules, c.want.Rules) || !slices.Equal(lost, c.lost) {
			t.Errorf("%s: got %v, lost %v; want %v, lost %v", name, need, lost, c.want, c.lost)
		}
		if (len(takers) > 0) != (len(need.Guests) > 0) {
			t.Errorf("%s: taken by %v", name, takers)
		}
	}
}
