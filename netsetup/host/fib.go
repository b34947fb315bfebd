package host

import "net/netip"

// FIB is the forwarding information base of IPv4: the policy rules in the order in which
// the kernel applies them, and the routes of all tables (ip-rule(8), ip-route(8)).
type FIB struct {
	Rules  []FIBRule
	Routes []FIBRoute
}

// FIBRule is a policy rule.
type FIBRule struct {
	Priority int          `json:"priority"`
	From     netip.Prefix `json:"from,omitzero"`    // not valid: all
	To       netip.Prefix `json:"to,omitzero"`      // not valid: all
	Mark     uint32       `json:"mark,omitempty"`   // bits that the packet's mark must have
	Narrow   bool         `json:"narrow,omitempty"` // selects also by link, user, port or the like
	Not      bool         `json:"not,omitempty"`
	Table    int          `json:"table,omitempty"`    // to look up; 0: none
	Goto     int          `json:"goto,omitempty"`     // priority of the rule to go on at; 0: the next
	Suppress int          `json:"suppress"`           // suppress_prefixlength; -1: none
	Protocol int          `json:"protocol,omitempty"` // RTPROT_ number of the origin
}

// FIBRoute is an IPv4 route as a lookup needs it.
type FIBRoute struct {
	Dst      netip.Prefix
	Table    int
	Metric   int
	Link     int  // index; 0 for a blackhole and the like
	Throw    bool // the lookup goes on with the next rule
	Protocol int  // RTPROT_ number of the origin
}

// matches reports whether the rule selects an unmarked packet between two addresses by
// them alone.
func (r FIBRule) matches(from, to netip.Addr) bool {
	if r.Narrow {
		return false
	}
	all := r.Mark == 0 && (!r.From.IsValid() || r.From.Contains(from)) && (!r.To.IsValid() || r.To.Contains(to))
	return all != r.Not
}

// Lookup returns the route of an unmarked packet and the rule that leads to it, as the
// kernel does (fib_rules_lookup and fib_table_lookup); ok is false if there is none.
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

// best returns the route of a table for an address: the longest prefix, of these the lowest
// metric, of these the first.
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

// PinProtocol is the mark of qnet's routes and rules (RTA_PROTOCOL, FRA_PROTOCOL). No
// program has this number in iproute2's rt_protos.
const PinProtocol = 113

// MainTable is the number of the table "main" (RT_TABLE_MAIN in linux/rtnetlink.h).
const MainTable = 254

// Ours reports whether the rule is a pin of qnet for a network's prefix.
func (r FIBRule) Ours(prefix netip.Prefix) bool {
	return r.Protocol == PinProtocol && r.To == prefix.Masked()
}

// Unpinned returns the FIB without qnet's pins.
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
