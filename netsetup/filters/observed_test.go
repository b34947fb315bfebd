package filters

import (
	"testing"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// A trace names a rule by its handle, a policy by none. Both lead to the base chain.
func TestDropAt(t *testing.T) {
	r := chains(Discard, map[string][]Rule{
		"forward": {{Verdict: Jump, Chain: "a", Handle: 4, Text: "jump a"}},
		"a":       {{Verdict: Jump, Chain: "b", Handle: 5, Text: "jump b"}},
		"b":       {{Verdict: Discard, Handle: 6, Text: "drop"}},
		"alone":   {{Verdict: Discard, Handle: 7, Text: "drop"}},
	})
	d, ok := r.DropAt(nft.INet, "t", "b", 6)
	if !ok || d.Rule != "drop" || d.Base != "forward" || d.Hook != nft.Forward || d.Policy() {
		t.Errorf("a rule: %+v, %t", d, ok)
	}
	if d, ok = r.DropAt(nft.INet, "t", "forward", 0); !ok || !d.Policy() || d.Type != "filter" {
		t.Errorf("a policy: %+v, %t", d, ok)
	}
	if d, ok = r.DropAt(nft.INet, "t", "alone", 7); !ok || d.Base != "alone" {
		t.Errorf("a chain that nothing leads to: %+v, %t", d, ok)
	}
	if _, ok := r.DropAt(nft.INet, "t", "b", 99); ok {
		t.Error("a rule that is gone was found")
	}
	if _, ok := r.DropAt(nft.IP, "t", "b", 6); ok {
		t.Error("another family's rule was found")
	}
}

// The counters of iptables-legacy tell what dropped packets between two snapshots.
func TestCountedDrops(t *testing.T) {
	at := func(policy, rule uint64) Ruleset {
		r := iptablesTable(IPTablesLegacy, Rule{Verdict: Discard, Text: "-A FORWARD -j DROP", Packets: rule}, Rule{Verdict: Accept, Packets: rule})
		r.Tables[0].Chains[0].Packets = policy
		return r
	}
	if d := at(1, 1).CountedDrops(at(1, 1)); len(d) != 0 {
		t.Errorf("nothing happened: %+v", d)
	}
	if d := at(2, 1).CountedDrops(at(1, 1)); len(d) != 1 || !d[0].Policy() {
		t.Errorf("the policy dropped: %+v", d)
	}
	if d := at(1, 2).CountedDrops(at(1, 1)); len(d) != 1 || d[0].Rule != "-A FORWARD -j DROP" {
		t.Errorf("the rule dropped: %+v", d)
	}
	nftables := iptablesTable(IPTablesNFT)
	if d := nftables.CountedDrops(Ruleset{}); len(d) != 0 {
		t.Errorf("nftables is traced instead: %+v", d)
	}
}
