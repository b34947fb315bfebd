package filters

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// chains is a ruleset of one table of nft's, whose base chain is "forward".
func chains(policy Verdict, list map[string][]Rule) Ruleset {
	t := Table{Engine: NFTables, Family: nft.INet, Name: "t"}
	for name, rules := range list {
		c := Chain{Name: name, Rules: rules}
		if name == "forward" {
			c.Type, c.Hook, c.Policy = "filter", nft.Forward, policy
		}
		t.Chains = append(t.Chains, c)
	}
	return Ruleset{Tables: []Table{t}}
}

// The walk follows jumps and verdicts as the kernel does, and says where it cannot know.
func TestWalk(t *testing.T) {
	do := func(v Verdict, matches ...Match) Rule { return Rule{Verdict: v, Matches: matches, Text: string(v)} }
	to := func(v Verdict, chain string, matches ...Match) Rule {
		return Rule{Verdict: v, Chain: chain, Matches: matches, Text: string(v) + " " + chain}
	}
	perhaps, never := Match{}, one(linkIn, span(LinkName("other"), LinkName("other")))
	loop := map[string][]Rule{"forward": {to(Jump, "a")}, "a": {to(Jump, "a")}}
	for name, c := range map[string]struct {
		policy Verdict
		chains map[string][]Rule
		want   string // "chain: rule", with ? where it may drop, and what may accept before
	}{
		"accept":                          {Discard, map[string][]Rule{"forward": {do(Accept), do(Discard)}}, ""},
		"policy":                          {Discard, map[string][]Rule{"forward": {do(Accept, never)}}, "forward: policy"},
		"reject":                          {Accept, map[string][]Rule{"forward": {do(Continue), do(Reject)}}, "forward: reject"},
		"drop in a chain":                 {Accept, map[string][]Rule{"forward": {to(Jump, "a")}, "a": {do(Discard)}}, "a: drop"},
		"return":                          {Discard, map[string][]Rule{"forward": {to(Jump, "a")}, "a": {do(Return), do(Accept)}}, "forward: policy"},
		"after a jump":                    {Accept, map[string][]Rule{"forward": {to(Jump, "a"), do(Discard)}, "a": {do(Continue)}}, "forward: drop"},
		"after a goto":                    {Accept, map[string][]Rule{"forward": {to(Goto, "a"), do(Discard)}, "a": {do(Continue)}}, ""},
		"no such chain":                   {Discard, map[string][]Rule{"forward": {to(Jump, "gone")}}, "forward: policy"},
		"a loop ends":                     {Discard, loop, "forward: policy"},
		"a rule may drop":                 {Accept, map[string][]Rule{"forward": {do(Discard, perhaps)}}, "forward: drop?"},
		"a rule may accept":               {Discard, map[string][]Rule{"forward": {do(Accept, perhaps), do(Accept, perhaps)}}, "forward: policy unless accept"},
		"a drop that may not be reached":  {Accept, map[string][]Rule{"forward": {to(Jump, "a", perhaps)}, "a": {do(Discard)}}, "a: drop?"},
		"an accept that may not":          {Discard, map[string][]Rule{"forward": {to(Jump, "a", perhaps)}, "a": {do(Accept)}}, "forward: policy unless accept"},
		"a program decides":               {Accept, map[string][]Rule{"forward": {do(Queue)}}, "forward: queue?"},
		"a target that is not understood": {Accept, map[string][]Rule{"forward": {do(Unknown)}}, "forward: unknown?"},
	} {
		var got []string
		for _, d := range chains(c.policy, c.chains).Drops(out()) {
			text := d.Chain + ": " + d.Rule
			if d.Policy() {
				text += "policy"
			}
			if d.May != "" {
				text += "?"
			}
			if d.Unless != "" {
				text += " unless " + d.Unless
			}
			got = append(got, text)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: got %q, want %q", name, text, c.want)
		}
	}
}

// A chain sees the packets of its family, hook and devices; a nat chain sees the first
// packet of a connection alone.
func TestBaseChains(t *testing.T) {
	four := out()
	six := four
	six.Src, six.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1")
	reply := four
	reply.Established = true
	dropper := func(f nft.Family, h nft.Hook, typ string, devices ...string) Ruleset {
		c := Chain{Name: "c", Type: typ, Hook: h, Policy: Discard, Devices: devices}
		return Ruleset{Tables: []Table{{Engine: NFTables, Family: f, Name: "t", Chains: []Chain{c}}}}
	}
	for name, c := range map[string]struct {
		r    Ruleset
		p    Packet
		want int
	}{
		"inet":                           {dropper(nft.INet, nft.Forward, "filter"), four, 1},
		"ip":                             {dropper(nft.IP, nft.Forward, "filter"), four, 1},
		"ip, of IPv6":                    {dropper(nft.IP, nft.Forward, "filter"), six, 0},
		"ip6":                            {dropper(nft.IP6, nft.Forward, "filter"), six, 1},
		"ip6, of IPv4":                   {dropper(nft.IP6, nft.Forward, "filter"), four, 0},
		"another hook":                   {dropper(nft.INet, nft.Output, "filter"), four, 0},
		"nat":                            {dropper(nft.IP, nft.Postrouting, "nat"), four, 1},
		"nat, of a reply":                {dropper(nft.IP, nft.Postrouting, "nat"), reply, 0},
		"bridge":                         {dropper(nft.Bridge, nft.Input, "filter"), four, 1},
		"arp":                            {dropper(nft.ARP, nft.Input, "filter"), four, 0},
		"ingress of the bridge":          {dropper(nft.NetDev, nft.Ingress, "filter", "qn-dev"), four, 1},
		"ingress of the port":            {dropper(nft.NetDev, nft.Ingress, "filter", "qnweb0"), four, 1},
		"ingress of another":             {dropper(nft.NetDev, nft.Ingress, "filter", "eth1"), four, 0},
		"egress":                         {dropper(nft.NetDev, nft.Egress, "filter", "eth0"), four, 1},
		"egress of another":              {dropper(nft.NetDev, nft.Egress, "filter", "eth1"), four, 0},
		"only a jump leads to the chain": {dropper(nft.INet, "", ""), four, 0},
	} {
		if drops := c.r.Drops(c.p); len(drops) != c.want {
			t.Errorf("%s: got %d drops, want %d: %+v", name, len(drops), c.want, drops)
		}
	}
}

// In the bridge family the links are ports, which may be unknown.
func TestPortsOfABridge(t *testing.T) {
	rule := Rule{Verdict: Discard, Matches: []Match{one(linkIn, span(LinkName("qnweb0"), LinkName("qnweb0")))}, Text: "drop"}
	r := Ruleset{Tables: []Table{{Engine: NFTables, Family: nft.Bridge, Name: "t", Chains: []Chain{
		{Name: "c", Type: "filter", Hook: nft.Input, Policy: Accept, Rules: []Rule{rule}},
	}}}}
	if d := r.Drops(out()); len(d) != 1 || d[0].May != "" {
		t.Errorf("its own port: %+v", d)
	}
	unknown := out()
	unknown.PortIn = ""
	if d := r.Drops(unknown); len(d) != 1 || d[0].May == "" {
		t.Errorf("an unknown port: %+v", d)
	}
}
