// Package pinned keeps guests reachable whose addresses another program's routes take, such as a
// VPN's (F32). Each guest gets a host route in the main table, which is longer than the route that
// takes the address. Where a policy rule leads past the main table, a rule before that one
// looks up host routes only, so that all other packets go where the other program wants them.
//
// The kernel places a rule added without a priority before the first existing one. Ours sits
// directly before the rule it overrides, so that order does not change.
//
// The package is pure.
package pinned

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Pins keep guests reachable.
type Pins struct {
	Guests []netip.Addr
	Rules  []int // priorities; at most one is needed
}

// Steps add the pins of a network with that bridge and subnet.
func (p Pins) Steps(bridge string, subnet netip.Prefix) step.List {
	var steps step.List
	for _, g := range p.Guests {
		steps = append(steps, step.PinGuest{Link: bridge, Guest: g})
	}
	for _, r := range p.Rules {
		steps = append(steps, step.PinRule{Prefix: subnet.Masked(), Priority: r})
	}
	return steps
}

// Network is a network that may need pins.
type Network struct {
	Bridge  int          // its index
	Prefix  netip.Prefix // its subnet
	Gateway netip.Addr   // the source of the host's packets to guests
	Guests  []netip.Addr
}

// Needed decides which pins keep the guests reachable, and says what takes their addresses.
// No pin helps the lost guests: a rule of priority 0 or the table local takes theirs.
func (n Network) Needed(f fib.FIB) (need Pins, by []Diversion, lost []netip.Addr) {
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
		if d := (Diversion{Route: route, Rule: rule, NoRoute: !ok}); !slices.Contains(by, d) {
			by = append(by, d)
		}
	}
	need.Rules = n.rulesNeeded(f, need.Guests)
	return need, by, lost
}

// rulesNeeded returns the priority of the rule without which the host routes to the guests
// would not be found; none if they would.
func (n Network) rulesNeeded(f fib.FIB, guests []netip.Addr) []int {
	f.Routes = slices.Clip(f.Routes)
	for _, g := range guests {
		f.Routes = append(f.Routes, fib.Route{Dst: netip.PrefixFrom(g, 32), Table: fib.MainTable, Metric: -1, Link: n.Bridge})
	}
	var first []int
	for _, g := range guests {
		rule, route, ok := f.Lookup(n.Gateway, g)
		if ok && route.Link != n.Bridge && (first == nil || rule.Priority-1 < first[0]) {
			first = []int{rule.Priority - 1}
		}
	}
	return first
}

// Present lists the network's pins that are on the host. Another program put a route before
// the idle ones, so that they keep no guest reachable.
func (n Network) Present(f fib.FIB) (there Pins, idle []netip.Addr) {
	for _, r := range f.Routes {
		if r.Protocol == fib.PinProtocol && r.Link == n.Bridge && r.Table == fib.MainTable {
			there.Guests = append(there.Guests, r.Dst.Addr())
		}
	}
	order.By(there.Guests, netip.Addr.Compare)
	for _, r := range f.Rules {
		if r.Ours(n.Prefix) {
			there.Rules = append(there.Rules, r.Priority)
		}
	}
	for _, g := range there.Guests {
		if _, route, ok := f.Lookup(n.Gateway, g); !ok || route.Link != n.Bridge {
			idle = append(idle, g)
		}
	}
	return there, idle
}

// Diversion is what takes guests' addresses: a route, and the policy rule that leads to it.
type Diversion struct {
	Route   fib.Route
	Rule    fib.Rule
	NoRoute bool // there is no route at all
}

// Describe names the diversion for the user. link is the name of the route's link.
func (d Diversion) Describe(link string) string {
	switch {
	case d.NoRoute:
		return "the lack of a route"
	case d.Route.Link == 0:
		return fmt.Sprintf("route %s of table %d, which leads nowhere", d.Route.Dst, d.Route.Table)
	case d.Rule.Table == fib.MainTable:
		return fmt.Sprintf("route %s dev %s", d.Route.Dst, link)
	}
	return fmt.Sprintf("route %s dev %s of table %d, to which rule %d leads", d.Route.Dst, link, d.Route.Table, d.Rule.Priority)
}
