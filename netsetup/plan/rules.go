package plan

import (
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// tables are the network's nftables: they only drop, so another program's drop
// is never undone and another's accept never needed.
func (p *Plan) tables(forwarded []string) []nft.Table {
	br := p.Bridge
	name, mark := host.TableName(p.Network.Name), host.NetworkMark(p.Network.Name)
	inet := nft.Table{Family: nft.INet, Name: name, Comment: mark}
	if p.Network.Mode == profiles.NAT {
		// The set is there even when empty: an uplink found later goes into it.
		inet.Sets = []nft.Set{{Name: forwardedSet, Links: forwarded}}
	}
	inet.Chains = []nft.Chain{
		{Name: "from_guests", Type: "filter", Hook: nft.Input, Policy: nft.Accept, Rules: p.inputRules()},
		{Name: "through_host", Type: "filter", Hook: nft.Forward, Policy: nft.Accept, Rules: p.forwardRules()},
	}
	switch p.Network.Mode {
	case profiles.NAT:
		inet.Chains = append(inet.Chains, mssChain(br), p.masqueradeChain())
	case profiles.Private:
		// Nothing at all goes up from the bridge to the host: not IPv6, not ARP,
		// whatever addresses a guest gives itself.
		return []nft.Table{inet, {Family: nft.NetDev, Name: name, Comment: mark, Chains: []nft.Chain{
			{Name: "to_host", Type: "filter", Hook: nft.Ingress, Device: br, Priority: -300, Policy: nft.Drop},
		}}}
	}
	return []nft.Table{inet}
}

func (p *Plan) inputRules() []nft.Rule {
	from := nft.Link(p.Bridge)
	if p.Network.Mode == profiles.Private {
		return []nft.Rule{{InLink: from, Do: nft.Drop}}
	}
	// A guest that borrows a LAN address would get the host's answers sent to the LAN.
	return []nft.Rule{
		// Our DHCP server hears its packet socket, before any rule. Another on the
		// host, or the kernel with a "port unreachable", must not answer too.
		{InLink: from, UDPPort: 67, Do: nft.Drop},
		{InLink: from, Source: p.Prefix, Do: nft.Accept},
		{InLink: from, Do: nft.Drop},
	}
}

func (p *Plan) forwardRules() []nft.Rule {
	br := nft.Link(p.Bridge)
	// With br_netfilter frames between two guests pass here too (F02).
	rules := []nft.Rule{{InLink: br, OutLink: br, Do: nft.Accept}}
	if p.Network.Mode == profiles.NAT {
		out := nft.Rule{InLink: br, Source: p.Prefix, Do: nft.Accept}
		if p.Network.Uplink != "" {
			out.OutLink = nft.Link(p.Network.Uplink)
		}
		rules = append(rules, out, nft.Rule{OutLink: br, Established: true, Do: nft.Accept})
	}
	rules = append(rules, nft.Rule{InLink: br, Do: nft.Drop}, nft.Rule{OutLink: br, Do: nft.Drop})
	if p.Network.Mode == profiles.NAT {
		// What our forwarding=1 on an uplink would newly let pass to the host's other links.
		rules = append(rules, nft.Rule{InLink: nft.Link("@" + forwardedSet), OutLink: nft.NotLink("qn*"), Do: nft.Drop})
	}
	return rules
}

// mssChain keeps TCP working where the uplink's MTU is smaller and ICMP is lost (F42).
func mssChain(br string) nft.Chain {
	return nft.Chain{Name: "clamp_mss", Type: "filter", Hook: nft.Forward, Priority: -150, Policy: nft.Accept, Rules: []nft.Rule{
		{InLink: nft.Link(br), SYN: true, Do: nft.ClampMSS},
		{OutLink: nft.Link(br), SYN: true, Do: nft.ClampMSS},
	}}
}

// masqueradeChain names no uplink, so that it survives a change of it (R7), and
// keeps guests off the privileged source ports (F11).
func (p *Plan) masqueradeChain() nft.Chain {
	out := nft.NotLink(p.Bridge)
	return nft.Chain{Name: "masquerade_guests", Type: "nat", Hook: nft.Postrouting, Priority: 100, Policy: nft.Accept, Rules: []nft.Rule{
		// The host's own packets to its address on the bridge: with 127.0.0.1 for a
		// source, a server bound to the bridge would not know its client.
		{OutLink: nft.Link("lo"), Do: nft.Accept},
		{OutLink: out, Source: p.Prefix, TCPUDP: true, Do: nft.MasqueradePorts},
		{OutLink: out, Source: p.Prefix, Do: nft.Masquerade},
	}}
}
