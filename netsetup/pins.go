package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
)

// pinProtocol marks our routes and rules (RTA_PROTOCOL, FRA_PROTOCOL). Nobody has
// the number in iproute2's rt_protos.
const pinProtocol = 113

const mainTable = 254

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
func (p Pins) Steps(bridge string, prefix netip.Prefix) StepList {
	var steps StepList
	for _, g := range p.Guests {
		steps = append(steps, PinGuest{Link: bridge, Guest: g})
	}
	for _, r := range p.Rules {
		steps = append(steps, PinRule{Prefix: prefix.Masked(), Priority: r})
	}
	return steps
}

// Taker is what takes guests' addresses: a route, and the rule that leads to it.
type Taker struct {
	Route FIBRoute
	Rule  FIBRule
	None  bool // there is no route at all
}

// String names it; link is the name of the route's.
func (t Taker) String(link string) string {
	switch {
	case t.None:
		return "the lack of a route"
	case t.Rule.Table == mainTable && t.Route.Link != 0:
		return fmt.Sprintf("route %s dev %s", t.Route.Dst, link)
	case t.Route.Link != 0:
		return fmt.Sprintf("route %s dev %s of table %d, to which rule %d leads", t.Route.Dst, link, t.Route.Table, t.Rule.Priority)
	}
	return fmt.Sprintf("route %s of table %d, which leads nowhere", t.Route.Dst, t.Route.Table)
}

// A Pinned is one network for which pins may be needed.
type Pinned struct {
	Bridge  int // index
	Prefix  netip.Prefix
	Gateway netip.Addr
	Guests  []netip.Addr
}

// Need decides which pins keep the guests reachable. lost are those that none can,
// because a rule of priority 0 or the table local takes them.
func (n Pinned) Need(f FIB) (need Pins, takers []Taker, lost []netip.Addr) {
	f = f.unpinned()
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
		taker := Taker{Route: route, Rule: rule, None: !ok}
		if !slices.Contains(takers, taker) {
			takers = append(takers, taker)
		}
	}
	pinned := f
	for _, g := range need.Guests {
		pinned.Routes = append(pinned.Routes[:len(pinned.Routes):len(pinned.Routes)],
			FIBRoute{Dst: netip.PrefixFrom(g, 32), Table: mainTable, Metric: -1, Link: n.Bridge})
	}
	for _, g := range need.Guests {
		rule, route, ok := pinned.Lookup(n.Gateway, g)
		if ok && route.Link != n.Bridge && (need.Rules == nil || rule.Priority-1 < need.Rules[0]) {
			need.Rules = []int{rule.Priority - 1}
		}
	}
	return need, takers, lost
}

// Has are the network's pins that are there and do what they are for: one that
// others were put before does not.
func (n Pinned) Has(f FIB) (has Pins, idle []netip.Addr) {
	for _, r := range f.Routes {
		if r.Protocol == pinProtocol && r.Link == n.Bridge && r.Table == mainTable {
			has.Guests = append(has.Guests, r.Dst.Addr())
		}
	}
	slices.SortFunc(has.Guests, netip.Addr.Compare)
	for _, r := range f.Rules {
		if r.ours(n.Prefix) {
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

func (r FIBRule) ours(prefix netip.Prefix) bool {
	return r.Protocol == pinProtocol && r.To == prefix.Masked()
}

// unpinned is the FIB without qnet's pins.
func (f FIB) unpinned() FIB {
	var other FIB
	for _, r := range f.Rules {
		if r.Protocol != pinProtocol {
			other.Rules = append(other.Rules, r)
		}
	}
	for _, r := range f.Routes {
		if r.Protocol != pinProtocol {
			other.Routes = append(other.Routes, r)
		}
	}
	return other
}

// strayPins are policy rules of ours for the network with the mark, or for none
// that is there. Host routes go with the bridge.
func strayPins(k Kernel, f Facts, mark string) (StepList, error) {
	fib, err := k.FIB()
	var rules StepList
	for _, r := range fib.Rules {
		other := slices.ContainsFunc(f.Links, func(l Link) bool {
			return l.ours() && l.Alias != mark && slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == r.To })
		})
		if r.Protocol == pinProtocol && !other {
			rules = append(rules, PinRule{Prefix: r.To, Priority: r.Priority})
		}
	}
	return rules, err
}

// PinGuest is a host route to a guest, before others of its length.
type PinGuest struct {
	Link  string     `json:"link"`
	Guest netip.Addr `json:"guest"`
}

// Do adds the route; one of ours that others were put before is moved.
func (s PinGuest) Do(k Kernel) error {
	if err := k.DelPin(s.Link, s.Guest); err != nil {
		return err
	}
	return k.AddPin(s.Link, s.Guest)
}

// Undo deletes the route that bears our protocol number.
func (s PinGuest) Undo(k Kernel) error { return k.DelPin(s.Link, s.Guest) }

// Holds reports whether the route is there.
func (s PinGuest) Holds(k Kernel) (bool, error) {
	l, ok, err := k.Link(s.Link)
	if err != nil || !ok {
		return false, err
	}
	f, err := k.FIB()
	return slices.ContainsFunc(f.Routes, func(r FIBRoute) bool {
		return r.Protocol == pinProtocol && r.Link == l.Index && r.Dst.Addr() == s.Guest
	}), err
}

func (s PinGuest) String() string {
	return fmt.Sprintf("ip route prepend %s/32 dev %s scope link proto %d", s.Guest, s.Link, pinProtocol)
}

// UndoString is the command Undo equals.
func (s PinGuest) UndoString() string {
	return fmt.Sprintf("ip route del %s/32 dev %s scope link proto %d", s.Guest, s.Link, pinProtocol)
}

// PinRule looks for host routes to a prefix in the main table, before the rules
// that come later.
type PinRule struct {
	Prefix   netip.Prefix `json:"prefix"`
	Priority int          `json:"priority"`
}

// Do adds the rule.
func (s PinRule) Do(k Kernel) error { return k.AddPinRule(s) }

// Undo deletes the rule that bears our protocol number.
func (s PinRule) Undo(k Kernel) error { return k.DelPinRule(s) }

// Holds reports whether the rule is there.
func (s PinRule) Holds(k Kernel) (bool, error) {
	f, err := k.FIB()
	return slices.ContainsFunc(f.Rules, func(r FIBRule) bool { return r.ours(s.Prefix) && r.Priority == s.Priority }), err
}

func (s PinRule) String() string { return "ip rule add " + s.words() }

// UndoString is the command Undo equals.
func (s PinRule) UndoString() string { return "ip rule del " + s.words() }

func (s PinRule) words() string {
	return fmt.Sprintf("priority %d to %s lookup main suppress_prefixlength 31 protocol %d", s.Priority, s.Prefix, pinProtocol)
}
