package netsetup

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

var (
	one, two = netip.MustParseAddr("10.77.0.10"), netip.MustParseAddr("10.77.0.200")
	pinned   = Pinned{
		Bridge: 7, Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		Guests: []netip.Addr{one, two},
	}
)

func via(dst string, table, link int) FIBRoute {
	return FIBRoute{Dst: netip.MustParsePrefix(dst), Table: table, Link: link}
}

// hostFIB routes by the main table to the network and by eth0 (2) to the rest.
func hostFIB() FIB {
	return FIB{
		Rules: []FIBRule{
			{Table: 255, Suppress: -1},
			{Priority: 32766, Table: mainTable, Suppress: -1},
			{Priority: 32767, Table: 253, Suppress: -1},
		},
		Routes: []FIBRoute{
			via("10.77.0.1/32", 255, 7), via("10.77.0.0/24", mainTable, 7), via("0.0.0.0/0", mainTable, 2),
		},
	}
}

// What is pinned, for each way to take addresses, and that the pins do it.
func TestPinsNeeded(t *testing.T) {
	const tun, table = 9, 51820
	rule := func(priority int, more func(*FIBRule)) FIBRule {
		r := FIBRule{Priority: priority, Table: table, Suppress: -1}
		if more != nil {
			more(&r)
		}
		return r
	}
	routed := []FIBRoute{via("0.0.0.0/0", table, tun)}
	for name, c := range map[string]struct {
		rules  []FIBRule
		routes []FIBRoute // before the host's
		want   Pins
		lost   []netip.Addr
	}{
		"nothing":             {},
		"aggregate":           {routes: []FIBRoute{via("10.0.0.0/8", mainTable, tun), via("0.0.0.0/1", mainTable, tun)}},
		"same prefix, later":  {routes: []FIBRoute{{Dst: pinned.Prefix, Table: mainTable, Link: tun, Metric: 50}}},
		"same prefix, first":  {routes: []FIBRoute{via("10.77.0.0/24", mainTable, tun)}, want: Pins{Guests: []netip.Addr{one, two}}},
		"half":                {routes: []FIBRoute{via("10.77.0.128/25", mainTable, tun)}, want: Pins{Guests: []netip.Addr{two}}},
		"table without rule":  {routes: routed},
		"rule":                {rules: []FIBRule{rule(100, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rules":               {rules: []FIBRule{rule(100, nil), rule(200, nil)}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule to a guest":     {rules: []FIBRule{rule(100, func(r *FIBRule) { r.To = netip.PrefixFrom(two, 32) })}, routes: routed, want: Pins{Guests: []netip.Addr{two}, Rules: []int{99}}},
		"rule from the LAN":   {rules: []FIBRule{rule(100, func(r *FIBRule) { r.From = netip.MustParsePrefix("192.0.2.0/24") })}, routes: routed},
		"rule from gateway":   {rules: []FIBRule{rule(100, func(r *FIBRule) { r.From = netip.MustParsePrefix("10.77.0.1/32") })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for marked":     {rules: []FIBRule{rule(100, func(r *FIBRule) { r.Mark = 1 })}, routes: routed},
		"rule for unmarked":   {rules: []FIBRule{rule(100, func(r *FIBRule) { r.Mark, r.Not = 1, true })}, routes: routed, want: Pins{Guests: []netip.Addr{one, two}, Rules: []int{99}}},
		"rule for a user":     {rules: []FIBRule{rule(100, func(r *FIBRule) { r.Narrow = true })}, routes: routed},
		"goto over the rule":  {rules: []FIBRule{{Priority: 50, Goto: 32766, Suppress: -1}, rule(100, nil)}, routes: routed},
		"throw":               {rules: []FIBRule{rule(100, nil)}, routes: []FIBRoute{{Dst: pinned.Prefix, Table: table, Throw: true}, routed[0]}},
		"wg-quick":            {rules: []FIBRule{{Priority: 99, Table: mainTable}, rule(100, nil)}, routes: routed},
		"rule of priority 0":  {rules: []FIBRule{rule(0, nil)}, routes: routed, lost: []netip.Addr{one, two}},
		"the host's own":      {routes: []FIBRoute{via("10.77.0.10/32", 255, 1)}, lost: []netip.Addr{one}},
		"blackhole":           {routes: []FIBRoute{via("10.77.0.8/29", mainTable, 0)}, want: Pins{Guests: []netip.Addr{one}}},
		"pinned already, not": {routes: []FIBRoute{{Dst: netip.PrefixFrom(one, 32), Table: mainTable, Link: 7, Protocol: pinProtocol}}},
	} {
		f := hostFIB()
		f.Rules = slices.Concat(f.Rules[:1], c.rules, f.Rules[1:])
		f.Routes = slices.Concat(c.routes, f.Routes)
		need, takers, lost := pinned.Need(f)
		if !slices.Equal(need.Guests, c.want.Guests) || !slices.Equal(need.Rules, c.want.Rules) || !slices.Equal(lost, c.lost) {
			t.Errorf("%s: got %v, lost %v; want %v, lost %v", name, need, lost, c.want, c.lost)
		}
		if (len(takers) > 0) != (len(need.Guests) > 0) {
			t.Errorf("%s: taken by %v", name, takers)
		}
	}
}

// The lookup of the FIB as read is the kernel's, and pins are what their commands say.
func TestPinsEqualCommands(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `
ip link add qn-dev type bridge; ip link set qn-dev addrgenmode none up; ip addr add 10.77.0.1/24 dev qn-dev
ip route add 10.77.0.0/25 dev eth0; ip route add 10.77.0.10/32 dev eth0
ip route add 10.77.0.0/16 dev eth0 table 100
ip rule add priority 50 to 10.77.0.0/24 lookup 100`)
		host := newHost(t)
		bridge, _, _ := host.Link("qn-dev")
		n := pinned
		n.Bridge = bridge.Index
		fib, err := host.FIB()
		if err != nil {
			t.Fatal(err)
		}
		need, _, _ := n.Need(fib)
		if want := (Pins{Guests: n.Guests, Rules: []int{49}}); !slices.Equal(need.Guests, want.Guests) || !slices.Equal(need.Rules, want.Rules) {
			t.Fatalf("got %v, want %v", need, want)
		}
		steps := need.Steps("qn-dev", n.Prefix)
		before := kernelState(t)
		if err := Apply(host, steps, nil); err != nil {
			t.Fatal(err)
		}
		for _, g := range n.Guests {
			lab.Sh(t, "ip route get "+g.String()+" | grep 'dev qn-dev'")
		}
		lab.Sh(t, "ip route get 10.77.0.11 | grep 'dev eth0'") // who is no guest is not ours
		fib, _ = host.FIB()
		if has, idle := n.Has(fib); !slices.Equal(has.Guests, need.Guests) || !slices.Equal(has.Rules, need.Rules) || idle != nil {
			t.Errorf("there: %v, idle %v", has, idle)
		}
		for _, s := range steps {
			if holds, err := s.Holds(host); !holds || err != nil {
				t.Errorf("%s: holds %v, %v", s, holds, err)
			}
		}
		byNetlink := kernelState(t)
		if err := Undo(host, steps); err != nil {
			t.Fatal(err)
		}
		if diff := difference(before, kernelState(t)); diff != "" {
			t.Errorf("left by Undo:\n%s", diff)
		}
		lab.Sh(t, Script(steps))
		if diff := difference(byNetlink, kernelState(t)); diff != "" {
			t.Errorf("-: by netlink, +: by the printed commands\n%s", diff)
		}
		// Without a journal: the rule by its mark.
		lab.Sh(t, "ip link set qn-dev alias qnet:dev")
		facts, err := Observe()
		if err != nil {
			t.Fatal(err)
		}
		if err := UndoByMarks(host, facts, "dev"); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "! ip rule | grep 'proto 113'; ! ip route show table all | grep 'proto 113'")
	})
}
