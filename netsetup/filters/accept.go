package filters

import (
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// AcceptRule is an accept for a network in a chain that belongs to an iptables program.
type AcceptRule struct {
	Engine Engine     `json:"engine"`
	Family nft.Family `json:"family"`
	Table  string     `json:"table"`
	Chain  string     `json:"chain"`
	// Spec is the rest of the rule as iptables-save lists it behind the chain. No word
	// of it holds a space.
	Spec string `json:"spec"`
	// Program drops what the rule lets pass: "Docker".
	Program string `json:"program,omitempty"`
}

// Mark is the mark of a network's own objects: the ifalias of its bridge, the comment of
// its nftables tables, and the comment of its rules in other programs' chains.
func Mark(network string) string { return "qnet:" + network }

// Forwards reports whether the rule lets pass what forwards send to guests.
func (a AcceptRule) Forwards() bool { return strings.Contains(a.Spec, dnatSpec) }

// Count is how many copies of the rule the ruleset holds.
func (r Ruleset) Count(rule AcceptRule) int {
	c, _ := r.Chain(rule.Engine, rule.Family, rule.Table, rule.Chain)
	n := 0
	for _, have := range c.Rules {
		if have.Text == rule.Text() {
			n++
		}
	}
	return n
}

// Marked lists the rules in the chains of iptables that bear a network's mark.
func (r Ruleset) Marked(network string) []AcceptRule {
	var list []AcceptRule
	for _, t := range r.Tables {
		if !t.IPTables() {
			continue
		}
		for _, c := range t.Chains {
			for _, have := range c.Rules {
				if have.Comment == Mark(network) {
					spec := strings.TrimPrefix(have.Text, "-A "+c.Name+" ")
					list = append(list, AcceptRule{Engine: t.Engine, Family: t.Family, Table: t.Name, Chain: c.Name, Spec: spec})
				}
			}
		}
	}
	return list
}

// Text is the rule as iptables-save lists it.
func (a AcceptRule) Text() string { return "-A " + a.Chain + " " + a.Spec }

// lockTime is how long iptables-legacy waits for its lock, in seconds (F09).
const lockTime = "10"

// Command is the shell command that inserts ("-I") or deletes ("-D") the rule.
func (a AcceptRule) Command(verb string) string {
	return strings.Join([]string{a.ProgramName(), "-w", lockTime, "-t", a.Table, verb, a.Chain, a.Spec}, " ")
}

// Args are the arguments of Command, as the program gets them from a shell.
func (a AcceptRule) Args(verb string) []string {
	return append([]string{"-w", lockTime, "-t", a.Table, verb, a.Chain}, strings.Fields(strings.ReplaceAll(a.Spec, `"`, ""))...)
}

// ProgramName is the program that changes the rule's chain: "iptables-nft".
func (a AcceptRule) ProgramName() string {
	if a.Family == nft.IP6 {
		return strings.Replace(string(a.Engine), "iptables", "ip6tables", 1)
	}
	return string(a.Engine)
}
