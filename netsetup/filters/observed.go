package filters

import (
	"cmp"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// DropAt is the drop by a rule of nftables or, if the handle is 0, by the policy of a
// chain. A trace of a packet has these names and nothing more. It reports false for
// what is not in the snapshot.
func (r Ruleset) DropAt(f nft.Family, table, chain string, handle uint64) (Drop, bool) {
	for i := range r.Tables {
		t := &r.Tables[i]
		c := t.Chain(chain)
		if t.Engine == IPTablesLegacy || t.Family != f || t.Name != table || c == nil {
			continue
		}
		if handle == 0 {
			return observed(t, c, nil), true
		}
		for j := range c.Rules {
			if c.Rules[j].Handle == handle {
				return observed(t, c, &c.Rules[j]), true
			}
		}
	}
	return Drop{}, false
}

// CountedDrops lists the rules and policies of iptables-legacy whose counters say that
// they have dropped packets since an earlier snapshot. No trace shows those drops.
func (r Ruleset) CountedDrops(before Ruleset) []Drop {
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
				list = append(list, observed(t, c, nil))
			}
			for k := range c.Rules {
				drops := c.Rules[k].Verdict == Discard || c.Rules[k].Verdict == Reject
				if drops && len(old.Rules) == len(c.Rules) && c.Rules[k].Packets > old.Rules[k].Packets {
					list = append(list, observed(t, c, &c.Rules[k]))
				}
			}
		}
	}
	return list
}

// observed is the drop by a rule or, if rule is nil, by the policy of a chain.
func observed(t *Table, c *Chain, rule *Rule) Drop {
	d := Drop{Engine: t.Engine, Family: t.Family, Table: t.Name, Chain: c.Name}
	base := t.leadsTo(c, 0)
	d.Base, d.Hook, d.Type = base.Name, base.Hook, cmp.Or(base.Type, "filter")
	if rule != nil {
		d.Rule = rule.Text
	}
	d.Program, d.KillSwitch = program(t, c, rule)
	return d
}

// leadsTo is the first base chain found from which packets reach a chain, or the chain
// itself if there is none.
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
