package filters

import (
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Engine is the kind of a table. It decides which program can change the table.
type Engine string

// The engines.
const (
	NFTables       Engine = "nftables"
	IPTablesNFT    Engine = "iptables-nft"    // an nftables table that the iptables program owns
	IPTablesLegacy Engine = "iptables-legacy" // the older engine, beside nftables
	EBTablesNFT    Engine = "ebtables-nft"    // the same of the ebtables program
)

// Verdict is what a rule does with a packet that it matches.
type Verdict string

// The verdicts. A rule without one, such as a counter, has Continue.
const (
	Continue Verdict = "continue"
	Accept   Verdict = "accept"
	Discard  Verdict = "drop"
	Reject   Verdict = "reject"
	Jump     Verdict = "jump"
	Goto     Verdict = "goto"
	Return   Verdict = "return"
	Queue    Verdict = "queue"   // a program decides, packet by packet
	Unknown  Verdict = "unknown" // of a target that package read does not understand
)

// Ruleset is a snapshot of the packet filters of other programs.
type Ruleset struct {
	Tables []Table `json:"tables,omitempty"`
	// Unread says to a user what could not be read, and why.
	Unread []string `json:"unread,omitempty"`
	// BridgeIPv4 and BridgeIPv6 are true where br_netfilter shows bridged frames to the
	// chains of ip, ip6 and inet, too (net.bridge.bridge-nf-call-iptables, F02).
	BridgeIPv4 bool `json:"bridge_ipv4,omitempty"`
	BridgeIPv6 bool `json:"bridge_ipv6,omitempty"`
	// Programs are the installed iptables programs that can change Tables.
	Programs Programs `json:"programs,omitempty"`
}

// Programs are the paths of the iptables programs.
type Programs map[Engine]map[nft.Family]string

// Table is a table of another program.
type Table struct {
	Engine Engine     `json:"engine"`
	Family nft.Family `json:"family"` // IP and IP6 in iptables-legacy too
	Name   string     `json:"name"`
	Chains []Chain    `json:"chains"`
}

// Chain is a chain of a table. Hook is "" for a chain that other chains jump to.
type Chain struct {
	Name     string   `json:"name"`
	Type     string   `json:"type,omitempty"` // "filter", "nat" or "route"
	Hook     nft.Hook `json:"hook,omitempty"`
	Devices  []string `json:"devices,omitempty"` // links of an ingress or egress chain
	Priority int      `json:"priority,omitempty"`
	Policy   Verdict  `json:"policy,omitempty"`
	Packets  uint64   `json:"packets,omitempty"` // how many met the policy, in iptables-legacy
	Rules    []Rule   `json:"rules,omitempty"`
}

// Rule applies Verdict to a packet that all Matches hold for.
type Rule struct {
	Matches []Match `json:"matches,omitempty"`
	Verdict Verdict `json:"verdict"`
	Chain   string  `json:"chain,omitempty"` // where Jump and Goto go
	// Untracks is true for a notrack: it keeps the packet from connection tracking.
	Untracks bool `json:"untracks,omitempty"`
	// Redirects is true where Accept gives the packet another destination, in a nat chain.
	Redirects bool   `json:"redirects,omitempty"`
	Comment   string `json:"comment,omitempty"`
	Handle    uint64 `json:"handle,omitempty"`  // in nftables
	Packets   uint64 `json:"packets,omitempty"` // how many matched, in iptables-legacy
	// Text is the rule as the program of its engine lists it, with words in brackets for
	// what package read does not understand.
	Text string `json:"text"`
}

// Chain finds a chain by name; nil if there is none.
func (t *Table) Chain(name string) *Chain {
	i := slices.IndexFunc(t.Chains, func(c Chain) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Chains[i]
}

// Chain finds a chain by its table and name.
func (r Ruleset) Chain(e Engine, f nft.Family, table, name string) (Chain, bool) {
	for i := range r.Tables {
		t := &r.Tables[i]
		if t.Engine == e && t.Family == f && t.Name == table {
			if c := t.Chain(name); c != nil {
				return *c, true
			}
		}
	}
	return Chain{}, false
}
