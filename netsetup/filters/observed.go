package filters

import (
	"cmp"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Culprit words a rule of nftables, or a chain's policy where the handle is 0, as
// what dropped a packet: a trace knows these names and no more. It reports false
// for what is not in the snapshot.
func (r Ruleset) Culprit(f nft.Family, table, chain string, handle uint64) (Drop, bool) {
	for i := range r.Tables {
		t := &r.Tables[i]
		c := t.Chain(chain)
		if t.Engine == IPTablesLegacy || t.Family != f || t.Name != table || c == nil {
			continue
		}
		if handle == 0 {
			return culprit(t, c, nil), true
		}
		for j := range c.Rules {
			if c.Rules[j].Handle == handle {
				return culprit(t, c, &c.Rules[j]), true
			}
		}
	}
	return Drop{}, false
}

// Counted lists what of iptables-legacy, of which there is no trace, has dropped
// packets since the snapshot before.
func (r Ruleset) Counted(before Ruleset) []Drop {
	var list []Drop
	for i := range r.Tables {
		t := &r.Tables[i]
		if t.Engine != IPTablesLegacy {
			continue
		}
		for j := range t.Chains {
			c := &t.Chains[j]
			old, _ := before.Chain(t.Engine, t.Family, t.Name, c.Name)
			if c.Policy == Discard && c.Packets > old.Packets {
				list = append(list, culprit(t, c, nil))
			}
			for k := range c.Rules {
				drops := c.Rules[k].Verdict == Discard || c.Rules[k].Verdict == Reject
				if drops && len(old.Rules) == len(c.Rules) && c.Rules[k].Packets > old.Rules[k].Packets {
					list = append(list, culprit(t, c, &c.Rules[k]))
				}
			}
		}
	}
	return list
}

func culprit(t *Table, c *Chain, rule *Rule) Drop {
	d := Drop{Engine: t.Engine, Family: t.Family, Table: t.Name, Chain: c.Name}
	base := t.leadsTo(c, 0)
	d.Base, d.Hook, d.Type = base.Name, base.Hook, cmp.Or(base.Type, "filter")
	if rule != nil {
		d.Rule = rule.Text
	}
	d.Program, d.KillSwitch = program(t, c, rule)
	return d
}

// leadsTo is the base chain from which a chain is reached, the first found.
func (t *Table) leadsTo(c *Chain, depth int) *Chain {
	if c.Hook != "" || depth > maxDepth {
		return c
	}
	for i := range t.Chains {
		for _, r := range t.Chains[i].Rules {
			if r.Chain == c.Name {
				if base := t.leadsTo(&t.Chains[i], depth+1); base.Hook != "" {
					return base
				}
			}
		}
	}
	return c
}
