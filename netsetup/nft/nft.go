// Package nft describes the few nftables rules that qnet needs as plain data, and
// renders them in two ways: as text for nft(8) (Table.String) and as netlink messages
// (Conn.Add, linux/netfilter/nf_tables.h). A test loads both into fresh namespaces and
// compares the kernel's own listings, so `qnet plan` shows what `qnet run` programs.
//
// The package knows nothing of bridges or plans. A Conn changes the tables of the
// network namespace in which it was opened, and never one without qnet's comment. Values
// may be used concurrently; a Conn may not.
package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// Family is an nftables address family as nft(8) spells it.
type Family string

// The families.
const (
	IP     Family = "ip"
	IP6    Family = "ip6"
	INet   Family = "inet"
	ARP    Family = "arp"
	Bridge Family = "bridge"
	NetDev Family = "netdev"
)

// Hook is a netfilter hook as nft(8) spells it.
type Hook string

// The hooks, in the order a packet meets them.
const (
	Ingress     Hook = "ingress"
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
	Egress      Hook = "egress"
)

// Action is what a rule does with a packet that it matches, as nft(8) spells it.
type Action string

// The actions qnet uses.
const (
	Accept          Action = "accept"
	Drop            Action = "drop"
	Masquerade      Action = "masquerade"
	MasqueradePorts Action = "masquerade to :1024-65535"
	ClampMSS        Action = "tcp option maxseg size set rt mtu"
	TracePacket     Action = "meta nftrace set 1" // the kernel reports the packet's way from here on, see package trace
	Reject          Action = "reject with icmpx type admin-prohibited"
	RejectTCP       Action = "reject with tcp reset" // of TCP only
	RedirectDNS     Action = "redirect to :53"       // to the host's own address on the link that the packet came by
)

// Table is one nftables table of qnet's. Comment is qnet's mark: only a table with that
// comment is qnet's.
type Table struct {
	Family  Family  `json:"family"`
	Name    string  `json:"name"`
	Comment string  `json:"comment"`
	Sets    []Set   `json:"sets,omitempty"`
	Chains  []Chain `json:"chains,omitempty"`
}

// Set is a named set of link names or, with Pairs, of pairs: of each link with itself. With IPv6 it
// is a set of addresses, which a Match of IP6Any or NDTarget names as "@name". With Of it is one of
// prefixes of that family, none of which contains another; with Timeout it has addresses, each for
// a time (Conn.Prolong).
type Set struct {
	Name      string         `json:"name"`
	Links     []string       `json:"links,omitempty"`
	Pairs     bool           `json:"pairs,omitempty"`
	IPv6      bool           `json:"ipv6,omitempty"`
	Addresses []netip.Addr   `json:"addresses,omitempty"`
	Of        Family         `json:"of,omitempty"` // IP or IP6
	Timeout   bool           `json:"timeout,omitempty"`
	Prefixes  []netip.Prefix `json:"prefixes,omitempty"`
}

// Chain is a base chain. Device is the link of an ingress chain.
type Chain struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // "filter" or "nat"
	Hook     Hook   `json:"hook"`
	Device   string `json:"device,omitempty"`
	Priority int    `json:"priority"`
	Policy   Action `json:"policy"`
	Rules    []Rule `json:"rules,omitempty"`
}

// Rule applies Do to packets that all fields but the zero ones match. They are checked
// in their order.
type Rule struct {
	InLink      LinkMatch    `json:"iif,omitzero"`
	OutLink     LinkMatch    `json:"oif,omitzero"`
	Pair        bool         `json:"pair,omitempty"`    // InLink and OutLink name one Set of Pairs, which has the two links
	NFProto     Family       `json:"nfproto,omitempty"` // IP or IP6: packets of this family only
	Source      netip.Prefix `json:"saddr,omitzero"`
	Dest        netip.Prefix `json:"daddr,omitzero"`
	TCPUDP      bool         `json:"tcpudp,omitempty"` // TCP and UDP only
	UDPPort     uint16       `json:"dport,omitempty"`  // UDP to this port only
	SYN         bool         `json:"syn,omitempty"`    // TCP segments with SYN and without RST
	Established bool         `json:"established,omitempty"`
	DNAT        bool         `json:"dnat,omitempty"` // connections that got another destination only
	Frame       []Match      `json:"frame,omitempty"`
	Do          Action       `json:"do"`
	// Counts names what the rule does, and makes the kernel count for package counters.
	Counts string `json:"counts,omitempty"`
}

// LinkMatch matches a link's name. "qn*" matches all names that begin with qn, and
// "@uplinks" the names of the Set uplinks.
type LinkMatch struct {
	Name string `json:"name,omitempty"`
	Not  bool   `json:"not,omitempty"`
}

// Link matches the link with that name.
func Link(name string) LinkMatch { return LinkMatch{Name: name} }

// NotLink matches every other link.
func NotLink(name string) LinkMatch { return LinkMatch{Name: name, Not: true} }

func (m LinkMatch) text(key string) string {
	name := fmt.Sprintf("%q", m.Name)
	if strings.HasPrefix(m.Name, "@") {
		name = m.Name
	}
	if m.Not {
		return key + " != " + name
	}
	return key + " " + name
}

// String renders the rule as nft(8) reads it.
func (r Rule) String() string {
	var words []string
	add := func(set bool, text string) {
		if set {
			words = append(words, text)
		}
	}
	add(r.InLink.Name != "" && !r.Pair, r.InLink.text("iifname"))
	add(r.OutLink.Name != "" && !r.Pair, r.OutLink.text("oifname"))
	add(r.Pair, r.InLink.text("iifname . oifname"))
	add(r.NFProto != "", "meta nfproto "+nfproto[r.NFProto].text)
	add(r.Source.IsValid(), family(r.Source)+" saddr "+prefixText(r.Source))
	add(r.Dest.IsValid(), family(r.Dest)+" daddr "+prefixText(r.Dest))
	add(r.TCPUDP, "meta l4proto { tcp, udp }")
	add(r.UDPPort != 0, fmt.Sprintf("udp dport %d", r.UDPPort))
	add(r.SYN, "tcp flags syn / syn,rst")
	add(r.Established, "ct state established,related")
	add(r.DNAT, "ct status dnat")
	for _, m := range r.Frame {
		words = append(words, m.String())
	}
	add(r.Counts != "", "counter")
	words = append(words, string(r.Do))
	add(r.Counts != "", fmt.Sprintf("comment %q", r.Counts))
	return strings.Join(words, " ")
}

// nfproto is how nft(8) spells a family of packets, and its number (NFPROTO_ of
// linux/netfilter.h).
var nfproto = map[Family]struct {
	text   string
	number byte
}{IP: {"ipv4", 2}, IP6: {"ipv6", 10}}

// family is that of a prefix.
func family(p netip.Prefix) string {
	if p.Addr().Is6() {
		return string(IP6)
	}
	return string(IP)
}

// prefixText leaves out the length of a single address, as nft does.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// String renders the table as a file that nft -f reads.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n\tcomment %q\n", t.Family, t.Name, t.Comment)
	for _, s := range t.Sets {
		b.WriteString(s.String())
	}
	for _, c := range t.Chains {
		b.WriteString(c.String())
	}
	b.WriteString("}\n")
	return b.String()
}

// String renders the set with a table's indentation.
func (s Set) String() string {
	kind := "type ifname"
	switch {
	case s.Pairs:
		kind = "type ifname . ifname"
	case s.IPv6:
		kind = "typeof " + string(NDTarget)
	case s.Of != "":
		kind = map[Family]string{IP: "type ipv4_addr", IP6: "type ipv6_addr"}[s.Of] + "\n\t\tflags " + map[bool]string{false: "interval", true: "timeout"}[s.Timeout]
	}
	var quoted []string
	for _, l := range s.Links {
		l = fmt.Sprintf("%q", l)
		if s.Pairs {
			l += " . " + l
		}
		quoted = append(quoted, l)
	}
	for _, a := range s.Addresses {
		quoted = append(quoted, IP6Value(a))
	}
	for _, p := range s.Prefixes {
		quoted = append(quoted, prefixText(p))
	}
	if len(quoted) == 0 {
		return fmt.Sprintf("\tset %s {\n\t\t%s\n\t}\n", s.Name, kind)
	}
	return fmt.Sprintf("\tset %s {\n\t\t%s\n\t\telements = { %s }\n\t}\n", s.Name, kind, strings.Join(quoted, ", "))
}

// String renders the chain with a table's indentation.
func (c Chain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s ", c.Name, c.Type, c.Hook)
	if c.Device != "" {
		fmt.Fprintf(&b, "device %q ", c.Device)
	}
	fmt.Fprintf(&b, "priority %d; policy %s;\n", c.Priority, c.Policy)
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
	return b.String()
}

// Count is how many packets the rules of a chain have matched that count under one name.
type Count struct {
	Of      string `json:"of"` // of Rule.Counts
	Packets uint64 `json:"packets"`
}
