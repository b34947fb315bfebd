package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// Forwarding is what an inet table of qnet's has besides, where ports of the host lead to guests
// behind its bridge: two maps of destinations, the chain that looks packets up in them, and a set
// of the guests' ports, which another chain of the table lets pass. The rules never change: a
// forward is an element of each.
type Forwarding struct {
	Table   string `json:"table"`
	Comment string `json:"comment"` // of the table
	Bridge  string `json:"bridge"`
}

// Destination is one that packets to the host get.
type Destination struct {
	Address netip.Addr     `json:"address,omitzero"` // of the host, IPv4; zero: any
	Proto   string         `json:"proto"`            // "tcp" or "udp"
	Port    uint16         `json:"port"`             // of the host
	Guest   netip.AddrPort `json:"guest"`            // IPv4
}

// Names of what a Forwarding adds to its table.
const (
	forwardChain = "forward_in"
	forwardAny   = "forward_any4"
	forwardAt    = "forward_at4"
	forwardTo    = "forwarded4"
	forwardRule  = "to forwarded ports" // the comment of the rule in throughChain
	throughChain = "through_host"       // which drops all that no rule before its end accepts
)

// forwardSets are the maps and the set of a Forwarding, with their types. The kernel looks a
// connection up once, with its first packet, so that the counters of a map's elements count
// connections.
var forwardSets = [][2]string{
	{"map " + forwardAny, "type inet_proto . inet_service : ipv4_addr . inet_service; counter"},
	{"map " + forwardAt, "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; counter"},
	{"set " + forwardTo, "type ipv4_addr . inet_proto . inet_service"},
}

// String renders the forwarding as a file that nft -f reads.
//
// A guest's connection to a port of the host ends at the host's own socket: what comes from links
// of qnet's gets no other destination. Nor does what is for other machines (fib daddr type), or
// for the loopback's addresses, which no guest may reach.
func (f Forwarding) String() string {
	var b strings.Builder
	for _, s := range forwardSets {
		kind, name, _ := strings.Cut(s[0], " ")
		fmt.Fprintf(&b, "add %s inet %s %s { %s; }\n", kind, f.Table, name, s[1])
	}
	fmt.Fprintf(&b, "add chain inet %s %s { type nat hook prerouting priority -100; policy accept; }\n", f.Table, forwardChain)
	for _, rule := range []string{
		`iifname "qn*" accept`,
		"ip daddr 127.0.0.0/8 accept",
		"fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @" + forwardAt,
		"fib daddr type local dnat ip to meta l4proto . th dport map @" + forwardAny,
	} {
		fmt.Fprintf(&b, "add rule inet %s %s %s\n", f.Table, forwardChain, rule)
	}
	fmt.Fprintf(&b, "insert rule inet %s %s oifname %q ct status dnat ip daddr . meta l4proto . th dport @%s accept comment %q\n",
		f.Table, throughChain, f.Bridge, forwardTo, forwardRule)
	return b.String()
}

// UndoString is the commands that take the forwarding away.
func (f Forwarding) UndoString() string {
	lines := []string{
		fmt.Sprintf(`nft delete rule inet %[1]s %[2]s handle $(nft -a list chain inet %[1]s %[2]s | sed -n 's/.*"%[3]s" # handle //p')`, f.Table, throughChain, forwardRule),
		fmt.Sprintf("nft delete chain inet %s %s", f.Table, forwardChain),
	}
	for _, s := range forwardSets {
		kind, name, _ := strings.Cut(s[0], " ")
		lines = append(lines, fmt.Sprintf("nft delete %s inet %s %s", kind, f.Table, name))
	}
	return strings.Join(lines, "\n")
}

// key is the forward's as nft(8) lists it in its map.
func (f Destination) key() string {
	key := fmt.Sprintf("%s . %d", f.Proto, f.Port)
	if f.Address.IsValid() {
		key = f.Address.String() + " . " + key
	}
	return key
}

// ElementCommands are the commands that add ("add") or delete ("delete") the elements of forwards.
func ElementCommands(verb, table string, list []Destination) string {
	var lines []string
	for _, s := range []struct {
		name string
		text func(Destination) string
	}{
		{forwardTo, func(f Destination) string {
			return fmt.Sprintf("%s . %s . %d", f.Guest.Addr(), f.Proto, f.Guest.Port())
		}},
		{forwardAny, func(f Destination) string { return f.element(!f.Address.IsValid()) }},
		{forwardAt, func(f Destination) string { return f.element(f.Address.IsValid()) }},
	} {
		var elements []string
		known := map[string]bool{"": true}
		for _, f := range list {
			if text := s.text(f); !known[text] {
				known[text] = true
				elements = append(elements, text)
			}
		}
		if len(elements) > 0 {
			lines = append(lines, fmt.Sprintf("nft %s element inet %s %s '{ %s }'", verb, table, s.name, strings.Join(elements, ", ")))
		}
	}
	return strings.Join(lines, "\n")
}

// element is the forward in a map, "" if it is not in that one.
func (f Destination) element(in bool) string {
	if !in {
		return ""
	}
	return fmt.Sprintf("%s : %s . %d", f.key(), f.Guest.Addr(), f.Guest.Port())
}
