package plan

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// exitTable is the first table that a network takes for the default route of its guests.
	exitTable = 11300
	// exitPriority is the highest priority number of the first of their two rules.
	exitPriority = 11300
)

// ExitSteps make the guests of a network leave by the uplink that the profile names, if the
// host's routing sends them elsewhere. They are none if no default route leads by that uplink.
func (p *Plan) ExitSteps(f host.Facts) step.List {
	l, ok := p.exitLink(f)
	if !ok {
		return nil
	}
	table := freeTable(f)
	var others []fib.Rule
	for _, r := range f.Rules {
		switch own := isExit(r) && r.In == p.Bridge; {
		case !own:
			others = append(others, r)
		case r.Table != fib.MainTable: // the network runs
			table = r.Table
		}
	}
	f.Rules = others
	if way, ok := p.guestLink(f); ok && way.Index == l.Index {
		return nil
	}
	via, ok := defaultBy(f, l)
	if !ok {
		return nil
	}
	exit := step.LeaveBy{Bridge: p.Bridge, Link: l.Name, Via: via, Table: table, Priority: beforeAll(f.Rules)}
	return append(step.List{exit}, looseSource(f, l)...)
}

// looseSource lets answers in by a link that is not the one by which the host would send to
// where they come from (rp_filter, RFC 3704). The kernel takes the greater of the link's value
// and that for all links.
func looseSource(f host.Facts, l host.Link) step.List {
	own, all := f.Sysctls[host.RPFilterKey(l.Name)], f.Sysctls[host.RPFilterKey("all")]
	if own == "" || max(own, all) != "1" {
		return nil
	}
	return step.List{step.SetSysctl{Key: host.RPFilterKey(l.Name), Value: "2", Old: own}}
}

// exitLink returns the link that the profile names, or the bridge of another network of
// qnet's that has that link as its port: then the host's addresses and routes are there.
func (p *Plan) exitLink(f host.Facts) (host.Link, bool) {
	links := pinnedLinks(f, p.Network.Uplink)
	return f.Link(links[len(links)-1])
}

// Rerouted returns the exit with the link and gateway of the default route that the uplink has
// now; changed is false if it is there as it should be, or if the link has no such route.
func (p *Plan) Rerouted(f host.Facts, s step.LeaveBy) (now step.LeaveBy, changed bool) {
	l, ok := p.exitLink(f)
	via, online := defaultBy(f, l)
	if !ok || !online {
		return s, false
	}
	s.Link = l.Name
	there := slices.ContainsFunc(f.Routes, func(r host.Route) bool {
		return r.Table == s.Table && r.Dst.Bits() == 0 && r.Link == s.Link && r.Via == via
	})
	s.Via = via
	return s, !there || !s.In(f.Rules)
}

// defaultBy returns the gateway of the default route by a link, not valid if it is on the link.
// The table main comes first. Routes of exits do not count.
func defaultBy(f host.Facts, l host.Link) (via netip.Addr, ok bool) {
	for _, r := range f.Routes {
		if r.Dst.Bits() != 0 || r.Link != l.Name || hasExit(f, r.Table) {
			continue
		}
		if r.Table == fib.MainTable {
			return r.Via, true
		}
		if !ok {
			via, ok = r.Via, true
		}
	}
	return via, ok
}

// isExit reports whether the rule is one of step.LeaveBy.
func isExit(r fib.Rule) bool { return r.Protocol == fib.PinProtocol && r.In != "" }

// hasExit reports whether the table is one of step.LeaveBy.
func hasExit(f host.Facts, table int) bool {
	return table != fib.MainTable && slices.ContainsFunc(f.Outward, func(r fib.Route) bool {
		return r.Table == table && r.Protocol == fib.PinProtocol
	})
}

// freeTable returns the number of a table that has neither routes nor rules.
func freeTable(f host.Facts) int {
	for table := exitTable; ; table++ {
		routed := slices.ContainsFunc(f.Routes, func(r host.Route) bool { return r.Table == table })
		if !routed && !slices.ContainsFunc(f.Rules, func(r fib.Rule) bool { return r.Table == table }) {
			return table
		}
	}
}

// beforeAll returns the priority of the first of two rules that come before all others but
// for those of priority 0, which lead to the host's own addresses, and other exits.
func beforeAll(rules []fib.Rule) int {
	first := exitPriority + 2
	for _, r := range rules {
		if r.Priority > 0 && !isExit(r) {
			first = min(first, r.Priority)
		}
	}
	return max(first-2, 1)
}
