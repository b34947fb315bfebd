package pinned

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/step"
)

var (
	one, two = netip.MustParseAddr("10.77.0.10"), netip.MustParseAddr("10.77.0.200")
	pinned   = Network{
		Bridge: 7, Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		Guests: []netip.Addr{one, two},
	}
)

func via(dst string, table, link int) fib.Route {
	return fib.Route{Dst: netip.MustParsePrefix(dst), Table: table, Link: link}
}

// hostFIB routes by the main table to the network and by eth0 (2) to the rest.
func hostFIB() fib.FIB {
	return fib.FIB{
		Rules: []fib.Rule{
			{Table: 255, Suppress: -1},
			{Priority: 32766, Table: fib.MainTable, Suppress: -1},
			{Priority: 32767, Table: 253, Suppress: -1},
		},
		Routes: []fib.Route{
			via("10.77.0.1/32", 255, 7), via("10.77.0.0/24", fib.MainTable, 7), via("0.0.0.0/0", fib.MainTable, 2),
		},
	}
}

// Which guests are pinned, for each way in which another program can take addresses.
func TestPinsNeeded(t *testing.T) {
	const tun, table = 9, 51820
	rule := func(priority int, more func(*fib.Rule)) fib.Rule {
		r := fib.Rule{Priority: priority, Table: table, Suppress: -1}
		if more != nil {
			more(&r)
		}
		return r
	}
	routed := []fib.Route{via("0.0.0.0/0", table, tun)}
	for name, c := range map[string]struct {
		rules  []fib.Rule
		routes []fib.Route // before the host's
		want   Pins
		lost   []netip.Addr
	}{
		"nothing":             {},
		"aggregate":           {routes: []fib.Route{via("10.0.0.0/8", fib.MainTable, tun), via("0.0.0.0/1", fib.MainTable, tun)}},
		"same prefix, later":  {routes: []fib.Route{{Dst: pinned.Prefix, Table: fib.MainTable, Link: tun, Metric: 50}}},
		"same prefix, first":  {routes: []fib.Route{via("10.77.0.0/24", fib.MainTable, tun)}, want: Pins{Guests: []netip.Addr{one, two}}},
		"half":                {routes: []fib.Route{via("10.77.0.128/25", fib.MainTable, tun)}, want: Pins{Guests: []netip.Addr{two}}},
		"table without rule":  {routes: routed},
		"rule":                {rules: []fib.Rule{rule(100, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rules":               {rules: []fib.Rule{rule(100, nil), rule(200, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule to a guest":     {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.To = netip.PrefixFrom(two, 32) })}, routes: routed, want: Pins{Guests: []netip.Addr{two}, Rules: []int{99}}},
		"rule from the LAN":   {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.From = netip.MustParsePrefix("192.0.2.0/24") })}, routes: routed},
		"rule from gateway":   {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.From = netip.MustParsePrefix("10.77.0.1/32") })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for marked":     {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.Mark = 1 })}, routes: routed},
		"rule for unmarked":   {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.Mark, r.Not = 1, true })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for a user":     {rules: []fib.Rule{rule(100, func(r *fib.Rule) { r.Narrow = true })}, routes: routed},
		"goto over the rule":  {rules: []fib.Rule{{Priority: 50, Goto: 32766, Suppress: -1}, rule(100, nil)}, routes: routed},
		"throw":               {rules: []fib.Rule{rule(100, nil)}, routes: []fib.Route{{Dst: pinned.Prefix, Table: table, Throw: true}, routed[0]}},
		"wg-quick":            {rules: []fib.Rule{{Priority: 99, Table: fib.MainTable}, rule(100, nil)}, routes: routed},
		"rule of priority 0":  {rules: []fib.Rule{rule(0, nil)}, routes: routed, lost: []netip.Addr{one, two}},
		"the host's own":      {routes: []fib.Route{via("10.77.0.10/32", 255, 1)}, lost: []netip.Addr{one}},
		"blackhole":           {routes: []fib.Route{via("10.77.0.8/29", fib.MainTable, 0)}, want: Pins{Guests: []netip.Addr{one}}},
		"pinned already, not": {routes: []fib.Route{{Dst: netip.PrefixFrom(one, 32), Table: fib.MainTable, Link: 7, Protocol: fib.PinProtocol}}},
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

// What takes addresses is named with its route, and the rule that leads to it.
func TestDiversionDescribes(t *testing.T) {
	main, vpn := fib.Rule{Priority: 32766, Table: fib.MainTable}, fib.Rule{Priority: 100, Table: 51820}
	for want, d := range map[string]Diversion{
		"the lack of a route":         {NoRoute: true},
		"route 10.77.0.0/24 dev tun0": {Route: via("10.77.0.0/24", fib.MainTable, 9), Rule: main},
		"route 0.0.0.0/0 dev tun0 of table 51820, to which rule 100 leads": {Route: via("0.0.0.0/0", 51820, 9), Rule: vpn},
		"route 10.77.0.8/29 of table 254, which leads nowhere":             {Route: via("10.77.0.8/29", fib.MainTable, 0), Rule: main},
	} {
		if got := d.Describe("tun0"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The pins on the host are those with our protocol number; one that another program's route
// comes before is idle.
func TestPinsPresent(t *testing.T) {
	pin := func(g netip.Addr) fib.Route {
		return fib.Route{Dst: netip.PrefixFrom(g, 32), Table: fib.MainTable, Link: pinned.Bridge, Protocol: fib.PinProtocol}
	}
	f := hostFIB()
	before := fib.Route{Dst: netip.PrefixFrom(two, 32), Table: fib.MainTable, Link: 9} // of another program
	f.Routes = append([]fib.Route{before, pin(two), pin(one)}, f.Routes...)
	f.Rules = slices.Insert(f.Rules, 1, fib.Rule{Priority: 99, To: pinned.Prefix, Table: fib.MainTable, Suppress: 31, Protocol: fib.PinProtocol})
	there, idle := pinned.Present(f)
	if !slices.Equal(there.Guests, []netip.Addr{one, two}) || !slices.Equal(there.Rules, []int{99}) || !slices.Equal(idle, []netip.Addr{two}) {
		t.Errorf("got %v, idle %v", there, idle)
	}
	steps := there.Steps("qn-dev", netip.MustParsePrefix("10.77.0.1/24"))
	want := step.List{step.PinGuest{Link: "qn-dev", Guest: one}, step.PinGuest{Link: "qn-dev", Guest: two}, step.PinRule{Prefix: pinned.Prefix, Priority: 99}}
	if !slices.Equal(steps, want) {
		t.Errorf("got %v, want %v", steps, want)
	}
}
