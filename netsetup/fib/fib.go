// Package fib is the kernel's forwarding information base of IPv4, policy rules and routes: it
// reads them as data, and answers by which route a packet leaves, as the kernel would, also
// for packets that do not exist yet and links that are not made. It changes nothing, and needs
// no rights. All functions may be called concurrently, and read the network namespace of the
// calling thread.
//
// Sources: ip-rule(8), ip-route(8), and the kernel's net/core/fib_rules.c and
// net/ipv4/fib_trie.c.
package fib

import (
	"net/netip"
	"slices"
)

// FIB is the forwarding information base of IPv4: the policy rules in the order in which
// the kernel applies them, and the routes of all tables (ip-rule(8), ip-route(8)).
type FIB struct {
	Rules  []Rule
	Routes []Route
}

// Rule is a policy rule.
type Rule struct {
	Priority int          `json:"priority"`
	From     netip.Prefix `json:"from,omitzero"`    // not valid: all
	To       netip.Prefix `json:"to,omitzero"`      // not valid: all
	Mark     uint32       `json:"mark,omitempty"`   // bits that the packet's mark must have
	In       string       `json:"in,omitempty"`     // link that the packet comes in by; "lo": the host itself sends it
	Narrow   bool         `json:"narrow,omitempty"` // selects by what a Packet has not: another user, port, output link or the like
	Not      bool         `json:"not,omitempty"`
	Table    int          `json:"table,omitempty"`    // to look up; 0: none
	Goto     int          `json:"goto,omitempty"`     // priority of the rule to go on at; 0: the next
	Ends     bool         `json:"ends,omitempty"`     // the packet goes nowhere: blackhole, unreachable, prohibit
	Suppress int          `json:"suppress"`           // suppress_prefixlength; -1: none
	Protocol int          `json:"protocol,omitempty"` // RTPROT_ number of the origin
}

// Route is an IPv4 route as a lookup needs it.
type Route struct {
	Dst      netip.Prefix
	Table    int
	Metric   int
	Link     int  // index; 0 for a blackhole and the like
	Throw    bool // the lookup goes on with the next rule
	Protocol int  // RTPROT_ number of the origin
}

// Packet is what the kernel looks a route up by: a TCP packet to port 443 that bears no mark.
// It is root's, as forwarded packets are (ip_route_input_slow).
type Packet struct {
	From, To netip.Addr
	In       string // the link that it comes in by; "lo": the host itself sends it
}

// matches reports whether the rule selects the packet (fib_rule_match and fib4_rule_match).
func (r Rule) matches(p Packet) bool {
	all := !r.Narrow && r.Mark == 0 && (r.In == "" || r.In == p.In) &&
		(!r.From.IsValid() || r.From.Contains(p.From)) && (!r.To.IsValid() || r.To.Contains(p.To))
	return all != r.Not
}

// Lookup returns the route of a packet of the host's own and the rule that leads to it; ok is
// false if there is none.
//
//	ip route get TO from FROM
func (f FIB) Lookup(from, to netip.Addr) (rule Rule, route Route, ok bool) {
	return f.RouteOf(Packet{from, to, "lo"})
}

// RouteOf returns the route of a packet and the rule that leads to it, as the kernel finds
// them (fib_rules_lookup and fib_table_lookup); ok is false if there is none.
//
//	ip route get TO from FROM iif IN ipproto tcp dport 443
func (f FIB) RouteOf(p Packet) (rule Rule, route Route, ok bool) {
	at := 0
	for _, r := range f.Rules {
		switch {
		case r.Priority < at || !r.matches(p):
		case r.Ends:
			return r, Route{}, false
		case r.Goto > 0:
			if slices.ContainsFunc(f.Rules, func(t Rule) bool { return t.Priority == r.Goto }) { // else it does nothing
				at = r.Goto
			}
		default:
			best, ok := f.best(r.Table, p.To)
			// A blackhole and the like are not suppressed (fib_rules_lookup).
			if ok && !best.Throw && (best.Link == 0 || best.Dst.Bits() > r.Suppress) {
				return r, best, true
			}
		}
	}
	return Rule{}, Route{}, false
}

// best returns the route of a table for an address: the longest prefix, of these the lowest
// metric, of these the first.
func (f FIB) best(table int, to netip.Addr) (best Route, ok bool) {
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
func (r Rule) Ours(prefix netip.Prefix) bool {
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
