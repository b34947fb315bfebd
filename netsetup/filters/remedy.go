package filters

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Traffic is what an accept lets pass: packets for which everything that is set holds.
type Traffic struct {
	In, Out         string // links; "" for any
	PortIn, PortOut string // ports of a bridge, by the beginning of their names
	Src, Dst        netip.Prefix
	Established     bool // only answers, and what belongs to them
}

// AcceptRule is an accept for a network in a chain of the iptables program's.
type AcceptRule struct {
	Engine Engine     `json:"engine"`
	Family nft.Family `json:"family"`
	Table  string     `json:"table"`
	Chain  string     `json:"chain"`
	// Spec is what the rule says, as iptables-save lists it behind the chain: its
	// words hold no spaces.
	Spec string `json:"spec"`
	// Program is who drops what the rule lets pass.
	Program string `json:"program,omitempty"`
}

// Answer is what is done about the drops of one base chain, or of a kill-switch.
type Answer struct {
	Drops   []Drop
	Accepts []AcceptRule // what lets the packets pass
	Note    string       // what the user should know or do, "" if nothing
}

// Mark is what a network's own bear: the ifalias of its bridge, and the comment of its
// tables and of its rules in others' chains.
func Mark(network string) string { return "qnet:" + network }

// Answers decides what is done about everything that would drop a network's
// packets, in the order of Ruleset.Packets. Accepts of the network that are there
// already are not looked at, so that the same are asked for again.
func (r Ruleset) Answers(n Promise) []Answer {
	r = r.without(Mark(n.Name))
	var list []Answer
	for _, p := range r.Packets(n) {
		for _, d := range r.Drops(p) {
			if d.May != "" { // somebody's rule against something else, most likely
				continue
			}
			if n.Zoned && d.Program == firewalld { // until it is told, a moment later
				continue
			}
			list, r = r.answer(n, p, d, list)
		}
	}
	for i := range list {
		if len(list[i].Accepts) == 0 && list[i].Note == "" {
			list[i].Note = n.note(r, list[i].Drops)
		}
	}
	return list
}

// remedy is one kind of answer: the accepts that let a packet pass a drop; false
// if it is none for this drop.
type remedy func(r Ruleset, n Promise, p Packet, d Drop) ([]placed, bool)

// remedies in the order they are tried. A drop that none of them answers is told.
var remedies = []remedy{leaveKillSwitch, acceptInIPTables}

// placed is a rule with what the walk needs of it.
type placed struct {
	AcceptRule
	matches []Match
}

// answer adds what is done about a drop to the list, and to the ruleset.
func (r Ruleset) answer(n Promise, p Packet, d Drop, list []Answer) ([]Answer, Ruleset) {
	i := slices.IndexFunc(list, func(a Answer) bool { return a.Drops[0].sameBase(d) })
	if i < 0 {
		i = len(list)
		list = append(list, Answer{})
	}
	list[i].Drops = append(list[i].Drops, d)
	for _, try := range remedies {
		rules, ok := try(r, n, p, d)
		if !ok {
			continue
		}
		for _, rule := range rules {
			r = r.with(rule)
			list[i].Accepts = append(list[i].Accepts, rule.AcceptRule)
		}
		return list, r
	}
	return list, r
}

// sameBase reports whether one answer serves both: a base chain, or a kill-switch,
// in however many chains.
func (d Drop) sameBase(e Drop) bool {
	if d.KillSwitch {
		return e.KillSwitch && e.Program == d.Program
	}
	return d.Engine == e.Engine && d.Family == e.Family && d.Table == e.Table && d.Base == e.Base && d.Program == e.Program
}

// leaveKillSwitch answers what a VPN drops on purpose with nothing at all.
func leaveKillSwitch(_ Ruleset, _ Promise, _ Packet, d Drop) ([]placed, bool) {
	return nil, d.KillSwitch
}

// ownersChains are where the owners of an iptables hook want others' accepts, in
// the order they are tried; the last is the head of the hook's own chain.
var ownersChains = map[nft.Hook][]string{
	nft.Input:   {"ufw-user-input", "ufw6-user-input", "INPUT"},
	nft.Forward: {"DOCKER-USER", "ufw-user-forward", "ufw6-user-forward", "FORWARD"},
	nft.Output:  {"ufw-user-output", "ufw6-user-output", "OUTPUT"},
}

// acceptInIPTables puts an accept where the walk then finds the packet let pass. Only
// in the table filter: an accept elsewhere would skip what others do to the
// packet there, marks for instance.
func acceptInIPTables(r Ruleset, n Promise, p Packet, d Drop) ([]placed, bool) {
	iptables := d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy
	if !iptables || d.Table != "filter" || r.Programs.path(d.Engine, d.Family) == "" {
		return nil, false
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
			return rules, true
		}
	}
	return nil, false
}

// dropsAt reports whether the base chain of a drop still surely drops the packet.
func (r Ruleset) dropsAt(p Packet, d Drop) bool {
	return slices.ContainsFunc(r.Drops(p), func(e Drop) bool {
		return e.May == "" && e.Engine == d.Engine && e.Family == d.Family && e.Table == d.Table && e.Base == d.Base
	})
}

// with is the ruleset with a rule at the head of its chain.
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

// without is the ruleset without the rules of a comment.
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

// Count is how often the rule is in the ruleset.
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

// Marked are the rules in iptables' chains that bear a network's comment.
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

// Text is the rule as its program lists it.
func (a AcceptRule) Text() string { return "-A " + a.Chain + " " + a.Spec }

// lockTime is how long iptables-legacy waits for its lock, in seconds (F09).
const lockTime = "10"

// Command is the shell command that equals Insert ("-I") or Delete ("-D").
func (a AcceptRule) Command(verb string) string {
	return strings.Join([]string{a.ProgramName(), "-w", lockTime, "-t", a.Table, verb, a.Chain, a.Spec}, " ")
}

// Args are the arguments that make its program insert ("-I") or delete ("-D") the rule.
func (a AcceptRule) Args(verb string) []string {
	return append([]string{"-w", lockTime, "-t", a.Table, verb, a.Chain}, strings.Fields(strings.ReplaceAll(a.Spec, `"`, ""))...)
}

// ProgramName is the program that changes the rule's chain: "iptables-nft".
func (a AcceptRule) ProgramName() string {
	return strings.Replace(string(a.Engine), "iptables", pick(a.Family == nft.IP6, "ip6tables", "iptables"), 1)
}

// spec is the traffic as iptables-save words it, with the mark of the network.
func (t Traffic) spec(network string) string {
	var words []string
	add := func(set bool, text string) {
		if set {
			words = append(words, text)
		}
	}
	add(t.Src.IsValid(), "-s "+t.Src.String())
	add(t.Dst.IsValid(), "-d "+t.Dst.String())
	add(t.In != "", "-i "+t.In)
	add(t.Out != "", "-o "+t.Out)
	add(t.PortIn != "", "-m physdev --physdev-in "+t.PortIn+"+ --physdev-is-bridged")
	add(t.PortOut != "", "-m physdev --physdev-out "+t.PortOut+"+ --physdev-is-bridged")
	add(t.Established, "-m conntrack --ctstate RELATED,ESTABLISHED")
	return strings.Join(append(words, `-m comment --comment "`+Mark(network)+`"`, "-j ACCEPT"), " ")
}

// nft is the traffic as nft(8) reads it.
func (t Traffic) nft() string {
	var words []string
	add := func(set bool, format string, v any) {
		if set {
			words = append(words, fmt.Sprintf(format, v))
		}
	}
	add(t.In != "", "iifname %q", t.In)
	add(t.Out != "", "oifname %q", t.Out)
	add(t.Src.IsValid(), "ip saddr %s", t.Src)
	add(t.Dst.IsValid(), "ip daddr %s", addressText(t.Dst))
	add(t.Established, "ct state %s", "established,related")
	return strings.Join(append(words, "accept"), " ")
}

func addressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// matches are the traffic's conditions.
func (t Traffic) matches(f nft.Family) []Match {
	var list []Match
	one := func(set bool, field Field, v []byte) {
		if set {
			list = append(list, Match{Fields: []Field{field}, Any: []Range{{v, v}}})
		}
	}
	one(t.In != "", Field{Name: InLink, Len: 16}, LinkName(t.In))
	one(t.Out != "", Field{Name: OutLink, Len: 16}, LinkName(t.Out))
	one(t.PortIn != "", Field{Name: PortIn, Len: 16}, []byte(t.PortIn))
	one(t.PortOut != "", Field{Name: PortOut, Len: 16}, []byte(t.PortOut))
	if f == nft.IP {
		list = append(list, prefixMatch(t.Src, 12)...)
		list = append(list, prefixMatch(t.Dst, 16)...)
	}
	if t.Established {
		list = append(list, AnyBit(CTState, StateEstablished|StateRelated, false))
	}
	return list
}

func prefixMatch(p netip.Prefix, offset int) []Match {
	if !p.IsValid() {
		return nil
	}
	v := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(v))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []Match{{Fields: []Field{{Header: NetworkHeader, Offset: offset, Len: len(v)}}, Mask: mask, Any: []Range{{v, v}}}}
}
