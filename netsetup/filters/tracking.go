package filters

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// trackingPriority is where connection tracking stands in the hooks prerouting and output
// (NF_IP_PRI_CONNTRACK of linux/netfilter_ipv4.h). A notrack behind it does nothing.
const trackingPriority = -200

// beforeTracking reports whether a notrack of the base chain keeps its packets from being
// tracked.
func (b base) beforeTracking() bool {
	routed := b.table.Family == nft.IP || b.table.Family == nft.IP6 || b.table.Family == nft.INet
	return routed && b.chain.Priority < trackingPriority && (b.chain.Hook == nft.Prerouting || b.chain.Hook == nft.Output)
}

// exchange is a request of a guest and the reply, as the hook prerouting sees both.
type exchange struct{ request, reply Packet }

// masqueraded are the packets that the host translates for guests of mode nat, and so has to
// track: the usual ones first, then those to name servers, which hosts with much DNS exempt.
func (n Promise) masqueraded() []exchange {
	if n.Mode != profiles.NAT {
		return nil
	}
	var list []exchange
	for _, up := range n.Uplinks[:min(len(n.Uplinks), maxUplinks)] {
		out := n.outside(up)[0]
		out.Path = []Stage{{false, nft.Prerouting}}
		dns := out
		dns.Proto, dns.Dport, dns.Name = UDP, dnsPort, "what guests ask name servers outside"
		for _, p := range []Packet{out, dns} {
			back := p.reply()
			back.Dst, back.DstLocal = netip.Addr{}, true // the address of the host, before the translation back
			back.Name, back.Reply = "the answers to "+p.Name, false
			list = append(list, exchange{p, back})
		}
	}
	return list
}

// untracked lists the rules that keep the packets of an exchange from being tracked, at most
// one for each packet.
func (r Ruleset) untracked(e exchange) []Drop {
	var list []Drop
	for _, p := range []Packet{e.request, e.reply} {
		if d := r.follow(&p).untracked; d != nil {
			list = append(list, *d)
		}
	}
	return list
}

// untrackedAnswers are the answers about rules that keep the network's packets from being
// tracked. Packets to name servers count where others are tracked.
func (r Ruleset) untrackedAnswers(n Promise) []Answer {
	var list []Answer
	for _, e := range n.masqueraded() {
		if e.request.Dport == dnsPort && len(list) > 0 {
			continue
		}
		for _, d := range r.untracked(e) {
			i := slices.IndexFunc(list, func(a Answer) bool { return a.Drops[0].sameBase(d) })
			if i < 0 {
				i = len(list)
				list = append(list, Answer{})
			}
			list[i].Drops = append(list[i].Drops, d)
			for _, c := range n.trackCommands(d) {
				if commands := &list[i].Remedy.Commands; !slices.Contains(*commands, c) {
					*commands = append(*commands, c)
				}
			}
		}
	}
	for i := range list {
		d := list[i].Drops[0]
		list[i].Evidence = fmt.Sprintf("%s (%s) keeps %s from being tracked, so the host cannot masquerade it", d.Program, d.where(), packets(list[i].Drops))
		list[i].Remedy.Purpose = "to have it tracked"
	}
	return list
}

// trackCommands are what an administrator runs so that a rule no longer keeps the packet
// from being tracked. Replies come to the ports that masquerading takes, or are ICMP's, which
// also reports packets that are too large.
func (n Promise) trackCommands(d Drop) []string {
	request := Traffic{In: n.Bridge}
	iptables := d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy
	switch {
	case d.In == n.Bridge:
		return []string{n.command(d, request)}
	case iptables:
		rule := AcceptRule{Engine: d.Engine, Family: d.Family, Table: d.Table, Chain: d.Base}
		var list []string
		for _, proto := range []string{"tcp --dport 1024:65535", "udp --dport 1024:65535", "icmp"} {
			rule.Spec = fmt.Sprintf(`-i %s -p %s -m comment --comment "%s" -j ACCEPT`, d.In, proto, Mark(n.Name))
			list = append(list, rule.Command("-I"))
		}
		return list
	}
	insert := fmt.Sprintf("nft insert rule %s %s %s iifname %q meta l4proto ", d.Family, d.Table, d.Base, d.In)
	return []string{insert + "{ tcp, udp } th dport 1024-65535 accept", insert + "icmp accept"}
}
