package host

import "net/netip"

// FIB is what the host routes IPv4 by: its policy rules in their order, and the
// routes of all tables (ip-rule(8), ip-route(8)).
type FIB struct {
	Rules  []FIBRule
	Routes []FIBRoute
}

// FIBRule is a policy rule.
type FIBRule struct {
	Priority int          `json:"priority"`
	From     netip.Prefix `json:"from,omitzero"` // zero: all
	To       netip.Prefix `json:"to,omitzero"`
	Mark     uint32       `json:"mark,omitempty"`   // what of a packet's mark must be set
	Narrow   bool         `json:"narrow,omitempty"` // selects by link, user, port or the like, too
	Not      bool         `json:"not,omitempty"`
	Table    int          `json:"table,omitempty"` // 0: none is looked up
	Goto     int          `json:"goto,omitempty"`  // priority to go on at, 0: the next
	Suppress int          `json:"suppress"`        // suppress_prefixlength, -1: none
	Protocol int          `json:"protocol,omitempty"`
}

// FIBRoute is a route as a lookup needs it.
type FIBRoute struct {
	Dst      netip.Prefix
	Table    int
	Metric   int
	Link     int  // index; 0 for a blackhole and the like
	Throw    bool // ends the lookup in this table
	Protocol int
}

// matches reports whether the rule is for unmarked packets from one address to
// another, whoever sends them.
func (r FIBRule) matches(from, to netip.Addr) bool {
	if r.Narrow {
		return false
	}
	all := r.Mark == 0 && (!r.From.IsValid() || r.From.Contains(from)) && (!r.To.IsValid() || r.To.Contains(to))
	return all != r.Not
}

// Lookup finds the route of an unmarked packet and the rule that led to it, as the
// kernel does (fib_rules_lookup and fib_table_lookup); ok is false where there is none.
//
//	ip route get TO from FROM
func (f FIB) Lookup(from, to netip.Addr) (rule FIBRule, route FIBRoute, ok bool) {
	at := 0
	for _, r := range f.Rules {
		switch {
		case r.Priority < at || !r.matches(from, to):
		case r.Goto > 0:
			at = r.Goto
		default:
			if best, ok := f.best(r.Table, to); ok && !best.Throw && best.Dst.Bits() > r.Suppress {
				return r, best, true
			}
		}
	}
	return FIBRule{}, FIBRoute{}, false
}

// About is the part of it that decides on the prefix's addresses. A host may have
// very many other routes.
func (f FIB) About(p netip.Prefix) FIB {
	part := FIB{Rules: f.Rules}
	for _, r := range f.Routes {
		if r.Dst.Overlaps(p) {
			part.Routes = append(part.Routes, r)
		}
	}
	return part
}

// best is the table's longest prefix, of the lowest metric, the first of equal ones.
func (f FIB) best(table int, to netip.Addr) (best FIBRoute, ok bool) {
	for _, r := range f.Routes {
		if r.Table != table || !r.Dst.Contains(to) {
			continue
		}
		longer, equal := r.Dst.Bits() > best.Dst.Bits(), r.Dst.Bits() == best.Dst.Bits()
		if !ok || longer || equal && r.Metric < best.Metric {
			best, ok = r, true
		}
	}
	return best, ok
}

// PinProtocol marks our routes and rules (RTA_PROTOCOL, FRA_PROTOCOL). Nobody has
// the number in iproute2's rt_protos.
const PinProtocol = 113

const MainTable = 254

func (r FIBRule) Ours(prefix netip.Prefix) bool {
	return r.Protocol == PinProtocol && r.To == prefix.Masked()
}

// Unpinned is the FIB without qnet's pins.
func (f FIB) Unpinned() FIB {
	var other FIB
	for _, r := range f.Rules {
		if r.Protocol != PinProtocol {
			other.Rules = append(other.Rules, r)
		}
	}
	for _, r := range f.Routes {
		if r.Protocol != PinProtocol {
			other.Routes = append(other.Routes, r)
		}
	}
	return other
}
