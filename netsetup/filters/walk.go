package filters

import (
	"cmp"
	"slices"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Drop says that a base chain drops a packet, or may do so.
type Drop struct {
	Engine  Engine     `json:"engine"`
	Family  nft.Family `json:"family"`
	Table   string     `json:"table"`
	Chain   string     `json:"chain"` // has the rule, or the policy
	Base    string     `json:"base"`  // the base chain that led there
	Hook    nft.Hook   `json:"hook"`
	Type    string     `json:"type"`            // of the base chain: "filter", "nat" or "route"
	Rule    string     `json:"rule,omitempty"`  // "" if the policy drops
	Program string     `json:"program"`         // "Docker", "ufw", "a ruleset of nft" ...
	Packet  string     `json:"packet"`          // Packet.Name
	Reply   bool       `json:"reply,omitempty"` // Packet.Reply
	In      string     `json:"in,omitempty"`    // Packet.In
	// KillSwitch is true where the program drops packets on purpose, to keep all traffic
	// inside a VPN (F10).
	KillSwitch bool `json:"kill_switch,omitempty"`
	// May says why the rule may not drop the packet, "" if it surely does.
	May string `json:"may,omitempty"`
	// Unless is the first rule before it that may accept the packet, "" if none may.
	Unless string `json:"unless,omitempty"`
}

// Policy reports whether the policy of the chain drops the packet, and no rule of it.
func (d Drop) Policy() bool { return d.Rule == "" }

// PacketText says to a user which packet is dropped.
func (d Drop) PacketText() string {
	if d.Reply {
		return d.Packet + ", the answer"
	}
	return d.Packet
}

// Drops lists the rules and policies that drop the packet or may drop it, in the order
// in which it meets the chains.
func (r Ruleset) Drops(p Packet) []Drop {
	return r.follow(&p).drops
}

// way is what happens to a packet on its way.
type way struct {
	drops     []Drop
	untracked *Drop // the rule that keeps it from being tracked; nil if none surely does
	redirects *Drop // the first rule that gives it another destination, likewise
}

// follow follows a packet through all chains, and marks it once it is not tracked.
func (r Ruleset) follow(p *Packet) way {
	var w way
	for _, stage := range p.Path {
		for _, b := range r.bases(*p, stage) {
			through := b.follow(p)
			w.drops = append(w.drops, through.drops...)
			if w.untracked == nil && through.untracked != nil {
				w.untracked, p.Untracked = through.untracked, true
			}
			if w.redirects == nil {
				w.redirects = through.redirects
			}
		}
	}
	return w
}

// base is a base chain with its table.
type base struct {
	table *Table
	chain *Chain
}

// bases are the base chains that see the packet at a stage, by priority.
func (r Ruleset) bases(p Packet, s Stage) []base {
	var list []base
	for i := range r.Tables {
		t := &r.Tables[i]
		for j := range t.Chains {
			if c := &t.Chains[j]; c.Hook == s.Hook && asks(t, c, p, s) {
				list = append(list, base{t, c})
			}
		}
	}
	order.By(list, func(a, b base) int { return cmp.Compare(a.chain.Priority, b.chain.Priority) })
	return list
}

// asks reports whether a base chain sees the packet at a stage.
func asks(t *Table, c *Chain, p Packet, s Stage) bool {
	if c.Type == "nat" && (p.Established || p.Untracked) {
		return false // it sees the first packet of a connection only
	}
	switch s.Hook {
	case nft.Ingress:
		return slices.Contains(c.Devices, p.In) || p.PortIn != "" && slices.Contains(c.Devices, p.PortIn)
	case nft.Egress:
		return slices.Contains(c.Devices, p.Out) || p.PortOut != "" && slices.Contains(c.Devices, p.PortOut)
	}
	switch t.Family {
	case nft.Bridge:
		return s.Bridge
	case nft.INet:
		return !s.Bridge
	case nft.IP:
		return !s.Bridge && !p.ipv6()
	case nft.IP6:
		return !s.Bridge && p.ipv6()
	}
	return false
}

// walk follows one packet through one base chain.
type walk struct {
	base
	way
	packet *Packet
	unless string // the first rule that may have accepted the packet
	depth  int
}

// maxDepth is the kernel's NFT_JUMP_STACK_SIZE.
const maxDepth = 16

func (b base) follow(p *Packet) way {
	seen := *p
	if b.table.Family == nft.Bridge { // which calls the ports links
		seen.In, seen.Out, seen.ports = p.PortIn, p.PortOut, true
	}
	w := walk{base: b, packet: &seen}
	if end := w.through(b.chain, true); end == Continue && b.chain.Policy == Discard {
		w.add(b.chain, nil, "")
	}
	return w.way
}

// through follows the packet through a chain. It returns Accept or Discard if its way
// through the base chain ends there, and else Continue. Nothing ends in a chain that
// the packet may not enter (sure is false).
func (w *walk) through(c *Chain, sure bool) Verdict {
	if w.depth++; w.depth > maxDepth {
		return Continue
	}
	defer func() { w.depth-- }()
	for i := range c.Rules {
		r := &c.Rules[i]
		match := w.matches(r)
		if match == no {
			continue
		}
		verdict, ends := w.do(c, r, sure && match == yes)
		if verdict != Continue {
			return verdict
		}
		if ends && match == yes {
			return Continue
		}
	}
	return Continue
}

func (w *walk) matches(r *Rule) tri {
	all := yes
	for _, m := range r.Matches {
		all = min(all, m.holds(w.packet))
	}
	return all
}

// do applies a rule that matches or, if sure is false, that the packet may not reach or
// match. If ends is true, no later rule of the chain sees a packet that matched.
func (w *walk) do(c *Chain, r *Rule, sure bool) (v Verdict, ends bool) {
	if r.Untracks && sure && w.untracked == nil && w.beforeTracking() {
		d := w.drop(c, r, "")
		w.untracked = &d
	}
	switch r.Verdict {
	case Accept:
		if sure {
			w.noteRedirect(c, r)
			return Accept, true
		}
		w.mayAccept(r)
		return Continue, true
	case Discard, Reject:
		if sure {
			w.add(c, r, "")
			return Discard, true
		}
		w.add(c, r, "what it matches is not known")
		return Continue, true
	case Queue, Unknown:
		w.add(c, r, "what it does is decided elsewhere")
		return Continue, false
	case Return:
		return Continue, true
	case Jump, Goto:
		target := w.table.Chain(r.Chain)
		if target == nil {
			return Continue, false
		}
		return w.through(target, sure), r.Verdict == Goto
	}
	return Continue, false
}

// noteRedirect remembers the first rule that gives the packet another destination.
func (w *walk) noteRedirect(c *Chain, r *Rule) {
	if r.Redirects && w.redirects == nil {
		d := w.drop(c, r, "")
		w.redirects = &d
	}
}

func (w *walk) mayAccept(r *Rule) {
	if w.unless == "" {
		w.unless = r.Text
	}
}

func (w *walk) add(c *Chain, r *Rule, may string) { w.drops = append(w.drops, w.drop(c, r, may)) }

// drop is what the walk knows of a rule or, if r is nil, of the policy of a chain.
func (w *walk) drop(c *Chain, r *Rule, may string) Drop {
	d := Drop{
		Engine: w.table.Engine, Family: w.table.Family, Table: w.table.Name, Chain: c.Name, Base: w.chain.Name,
		Hook: w.chain.Hook, Type: w.chain.Type, In: w.packet.In, Packet: w.packet.Name, Reply: w.packet.Reply, May: may, Unless: w.unless,
	}
	if r != nil {
		d.Rule = r.Text
	}
	d.Program, d.KillSwitch = program(w.table, c, r)
	return d
}
