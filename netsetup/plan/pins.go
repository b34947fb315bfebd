package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Pins keep guests reachable whose addresses another program's routes take, a
// VPN's for example (F32): a host route for each in the main table, which is
// longer than what takes the address; and where a policy rule leads past the main
// table, a rule before that one, which looks for host routes only, so that
// everything else goes where it would.
//
// A rule pulls those that are added without a priority in front of it, where they
// would have been without it too: it stands directly before the rule it is for.
type Pins struct {
	Guests []netip.Addr
	Rules  []int // priorities; one is needed at most
}

// Steps make the pins.
func (p Pins) Steps(bridge string, prefix netip.Prefix) step.List {
	var steps step.List
	for _, g := range p.Guests {
		steps = append(steps, step.PinGuest{Link: bridge, Guest: g})
	}
	for _, r := range p.Rules {
		steps = append(steps, step.PinRule{Prefix: prefix.Masked(), Priority: r})
	}
	return steps
}

// Diversion is what takes guests' addresses: a route, and the rule that leads to it.
type Diversion struct {
	Route host.FIBRoute
	Rule  host.FIBRule
	NoRoute  bool // there is no route at all
}

// String names it; link is the name of the route's.
func (t Diversion) Describe(link string) string {
	switch {
	case t.NoRoute:
		return "the lack of a route"
	case t.Rule.Table == host.MainTable && t.Route.Link != 0:
		return fmt.Sprintf("route %s dev %s", t.Route.Dst, link)
	case t.Route.Link != 0:
		return fmt.Sprintf("route %s dev %s of table %d, to which rule %d leads", t.Route.Dst, link, t.Route.Table, t.Rule.Priority)
	}
	return fmt.Sprintf("route %s of table %d, which leads nowhere", t.Route.Dst, t.Route.Table)
}

// PinnedNetwork is one network for which pins may be needed.
type PinnedNetwork struct {
	Bridge  int // index
	Prefix  netip.Prefix
	Gateway netip.Addr
	Guests  []netip.Addr
}

// Needed decides which pins keep the guests reachable. lost are those that none can,
// because a rule of priority 0 or the table local takes them.
func (n PinnedNetwork) Needed(f host.FIB) (need Pins, takers []Diversion, lost []netip.Addr) {
	f = f.Unpinned()
	for _, g := range n.Guests {
		rule, route, ok := f.Lookup(n.Gateway, g)
		if ok && route.Link == n.Bridge {
			continue
		}
		if ok && rule.Priority == 0 {
			lost = append(lost, g)
			continue
		}
		need.Guests = append(need.Guests, g)
		taker := Diversion{Route: route, Rule: rule, NoRoute: !ok}
		if !slices.Contains(takers, taker) {
			takers = append(takers, taker)
		}
	}
	pinned := f
	for _, g := range need.Guests {
		pinned.Routes = append(pinned.Routes[:len(pinned.Routes):len(pinned.Routes)],
			host.FIBRoute{Dst: netip.PrefixFrom(g, 32), Table: host.MainTable, Metric: -1, Link: n.Bridge})
	}
	for _, g := range need.Guests {
		rule, route, ok := pinned.Lookup(n.Gateway, g)
		if ok && route.Link != n.Bridge && (need.Rules == nil || rule.Priority-1 < need.Rules[0]) {
			need.Rules = []int{rule.Priority - 1}
		}
	}
	return need, takers, lost
}

// Present are the network's pins that are there and do what they are for: one that
// others were put before does not.
func (n PinnedNetwork) Present(f host.FIB) (has Pins, idle []netip.Addr) {
	for _, r := range f.Routes {
		if r.Protocol == host.PinProtocol && r.Link == n.Bridge && r.Table == host.MainTable {
			has.Guests = append(has.Guests, r.Dst.Addr())
		}
	}
	slices.SortFunc(has.Guests, netip.Addr.Compare)
	for _, r := range f.Rules {
		if r.Ours(n.Prefix) {
			has.Rules = append(has.Rules, r.Priority)
		}
	}
	for _, g := range has.Guests {
		if _, route, ok := f.Lookup(n.Gateway, g); !ok || route.Link != n.Bridge {
			idle = append(idle, g)
		}
	}
	return has, idle
}
