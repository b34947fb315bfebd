package filters

import (
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Answer is what happens about the drops of one base chain, or of one kill-switch:
// either qnet inserts Accepts, or Evidence and Remedy tell the user about the drops.
type Answer struct {
	Drops    []Drop       // at least one
	Accepts  []AcceptRule // let the packets pass
	Evidence string       // which program drops what, and where; "" beside Accepts
	Remedy   Remedy       // what the user can do about it
}

// String is Evidence with Remedy as one sentence, "" where qnet inserts Accepts.
func (a Answer) String() string {
	if a.Evidence == "" {
		return ""
	}
	return a.Evidence + "; " + a.Remedy.Sentence()
}

// Answers decides about everything that would drop a network's packets, in the order
// of Ruleset.Packets, and then about what keeps them from being masqueraded. It ignores the accepts of this network in the snapshot, so that
// it asks for the same accepts again.
func (r Ruleset) Answers(n Promise) []Answer {
	r = r.without(Mark(n.Name))
	var list []Answer
	for _, p := range r.Packets(n) {
		for _, d := range r.Drops(p) {
			if d.May != "" { // most likely a rule against something else
				continue
			}
			if n.Zoned && d.Program == firewalld { // which accepts the bridge a moment later
				continue
			}
			list, r = r.answer(n, p, d, list)
		}
	}
	for i := range list {
		if len(list[i].Accepts) == 0 {
			list[i].Evidence, list[i].Remedy = evidence(list[i].Drops), n.remedy(r, list[i].Drops)
		}
	}
	return append(list, r.untrackedAnswers(n)...)
}

// answer adds what happens about a drop to the list, and its accepts to the ruleset.
func (r Ruleset) answer(n Promise, p Packet, d Drop, list []Answer) ([]Answer, Ruleset) {
	i := slices.IndexFunc(list, func(a Answer) bool { return a.Drops[0].sameBase(d) })
	if i < 0 {
		i = len(list)
		list = append(list, Answer{})
	}
	list[i].Drops = append(list[i].Drops, d)
	for _, rule := range r.accepts(n, p, d) {
		r = r.with(rule)
		list[i].Accepts = append(list[i].Accepts, rule.AcceptRule)
	}
	return list, r
}

// sameBase reports whether one answer serves both drops: they are of one base chain,
// or of one kill-switch, in however many chains.
func (d Drop) sameBase(e Drop) bool {
	if d.KillSwitch {
		return e.KillSwitch && e.Program == d.Program
	}
	return d.Engine == e.Engine && d.Family == e.Family && d.Table == e.Table && d.Base == e.Base && d.Program == e.Program
}

// ownersChains are the chains in which the owners of an iptables hook want the accepts
// of others, in the order qnet tries them. The last is the hook's own chain.
var ownersChains = map[nft.Hook][]string{
	nft.Input:   {"ufw-user-input", "ufw6-user-input", "INPUT"},
	nft.Forward: {"DOCKER-USER", "ufw-user-forward", "ufw6-user-forward", "FORWARD"},
	nft.Output:  {"ufw-user-output", "ufw6-user-output", "OUTPUT"},
}

// placed is an accept with the conditions that the walk compares.
type placed struct {
	AcceptRule
	matches []Match
}

// accepts are the rules that let a packet pass a drop of iptables, none where qnet
// leaves the drop alone. A kill-switch drops on purpose. Only the table filter is
// changed: an accept in another one would skip what other programs do to the packet
// there, marks for instance.
func (r Ruleset) accepts(n Promise, p Packet, d Drop) []placed {
	iptables := d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy
	if d.KillSwitch || !iptables || d.Table != "filter" || r.Programs[d.Engine][d.Family] == "" {
		return nil
	}
	for _, chain := range ownersChains[d.Hook] {
		if _, there := r.Chain(d.Engine, d.Family, d.Table, chain); !there {
			continue
		}
		var rules []placed
		now := r
		for _, t := range p.Passes {
			rule := placed{AcceptRule{d.Engine, d.Family, d.Table, chain, t.spec(n.Name), d.Program}, t.matches(d.Family)}
			rules = append(rules, rule)
			now = now.with(rule)
		}
		if !now.dropsAt(p, d) {
			return rules
		}
	}
	return nil
}

// dropsAt reports whether the base chain of a drop still surely drops the packet.
func (r Ruleset) dropsAt(p Packet, d Drop) bool {
	return slices.ContainsFunc(r.Drops(p), func(e Drop) bool {
		return e.May == "" && e.Engine == d.Engine && e.Family == d.Family && e.Table == d.Table && e.Base == d.Base
	})
}

// with returns a copy of the ruleset that has the rule at the head of its chain.
func (r Ruleset) with(rule placed) Ruleset {
	r.Tables = slices.Clone(r.Tables)
	for i := range r.Tables {
		t := &r.Tables[i]
		if t.Engine != rule.Engine || t.Family != rule.Family || t.Name != rule.Table {
			continue
		}
		t.Chains = slices.Clone(t.Chains)
		c := t.Chain(rule.Chain)
		head := Rule{Matches: rule.matches, Verdict: Accept, Text: rule.Text()}
		c.Rules = append([]Rule{head}, c.Rules...)
	}
	return r
}

// without returns a copy of the ruleset that lacks the rules with this comment.
func (r Ruleset) without(comment string) Ruleset {
	ours := func(rule Rule) bool { return rule.Comment == comment }
	r.Tables = slices.Clone(r.Tables)
	for i := range r.Tables {
		t := &r.Tables[i]
		t.Chains = slices.Clone(t.Chains)
		for j := range t.Chains {
			c := &t.Chains[j]
			if slices.ContainsFunc(c.Rules, ours) {
				c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), ours)
			}
		}
	}
	return r
}
