package plan

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nat66"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// tables are the network's nftables tables. Their chains drop, and let pass what other
// programs' chains then decide about: an accept in one table overrides no drop in another.
// The host newly forwards what comes in by the links forwarded, of which some are bridges.
func (p *Plan) tables(forwarded, bridges []string, f host.Facts) []nft.Table {
	br := p.Bridge
	name, mark := host.TableName(p.Network.Name), host.NetworkMark(p.Network.Name)
	inet := nft.Table{Family: nft.INet, Name: name, Comment: mark}
	if p.Network.Mode == profiles.NAT {
		// The sets are there even when empty: an uplink that appears later goes into them.
		inet.Sets = []nft.Set{{Name: forwardedSet, Links: forwarded}, {Name: portsSet, Links: bridges, Pairs: true}}
		if p.Network.Uplink != "" {
			inet.Sets = append(inet.Sets, nft.Set{Name: pinnedSet, Links: p.Uplinks})
		}
		if p.Prefix6.IsValid() {
			six := p.nat66()
			inet.Sets[1].Links = union(bridges, six.Bridges(f))
			inet.Sets = append(inet.Sets, six.Sets(six.Forwarded(f))...)
		}
	}
	inet.Chains = []nft.Chain{
		{Name: "from_guests", Type: "filter", Hook: nft.Input, Policy: nft.Accept, Rules: p.inputRules()},
		{Name: "through_host", Type: "filter", Hook: nft.Forward, Policy: nft.Accept, Rules: p.forwardRules()},
	}
	switch p.Network.Mode {
	case profiles.NAT:
		inet.Chains = append(inet.Chains, mssChain(br), p.masqueradeChain())
		if !p.Network.Metadata {
			inet.Chains = append(inet.Chains, p.metadataChain(br))
		}
	case profiles.Private:
		// Nothing goes up from the bridge to the host, not even IPv6 and ARP, whatever
		// addresses a guest gives itself.
		return []nft.Table{inet, {Family: nft.NetDev, Name: name, Comment: mark, Chains: []nft.Chain{
			{Name: "to_host", Type: "filter", Hook: nft.Ingress, Device: br, Priority: -300, Policy: nft.Drop},
		}}}
	}
	return []nft.Table{inet}
}

// inputRules let guests speak to the host only from addresses of the subnet. A guest that
// borrows a LAN address would make the host send its replies to the LAN.
func (p *Plan) inputRules() []nft.Rule {
	from := nft.Link(p.Bridge)
	if p.Network.Mode == profiles.Private {
		return []nft.Rule{{InLink: from, Do: nft.Drop}}
	}
	rules := []nft.Rule{
		// qnet's DHCP server receives by a packet socket, before any rule. Another server
		// on the host, or the kernel by "port unreachable", must not reply as well.
		{InLink: from, UDPPort: 67, Do: nft.Drop},
		{InLink: from, Source: p.Prefix, Do: nft.Accept},
	}
	if p.Prefix6.IsValid() {
		rules = append(rules, ula.InputRules(from, p.Prefix6)...)
	}
	return append(rules, nft.Rule{InLink: from, Do: nft.Drop})
}

// forwardRules let guests pass as the mode promises, and drop the rest of what comes from
// the bridge or goes to it.
func (p *Plan) forwardRules() []nft.Rule {
	br := nft.Link(p.Bridge)
	// With br_netfilter, frames between two guests pass here, too (F02).
	rules := append(make([]nft.Rule, 0, 8), nft.Rule{InLink: br, OutLink: br, Do: nft.Accept})
	if p.Network.Mode == profiles.NAT {
		out := nft.Rule{InLink: br, Source: p.Prefix, Do: nft.Accept}
		if p.Network.Uplink != "" {
			out.OutLink = nft.Link("@" + pinnedSet)
		}
		if rules = append(rules, out); p.Prefix6.IsValid() {
			out.Source = p.Prefix6
			rules = append(rules, out)
		}
		rules = append(rules, nft.Rule{OutLink: br, Established: true, Do: nft.Accept})
	}
	rules = append(rules, nft.Rule{InLink: br, Do: nft.Drop}, nft.Rule{OutLink: br, Do: nft.Drop})
	if p.Network.Mode != profiles.NAT {
		return rules
	}
	// forwarding=1 on an uplink would newly let what comes in by it pass to the host's other
	// links, of which some are bridges of qnet's to a LAN. Guests of other networks get answers, and
	// what is for their forwarded ports, of which the tables of those networks decide.
	uplink, ports := nft.Link("@"+forwardedSet), nft.Link("@"+portsSet)
	rules = append(rules, nft.Rule{InLink: ports, OutLink: ports, Pair: true, Do: nft.Accept}) // which br_netfilter shows
	var four nft.Family
	if p.Prefix6.IsValid() { // the host may forward the one family newly, and the other anyway
		four = nft.IP
	}
	rules = append(rules,
		nft.Rule{NFProto: four, InLink: uplink, OutLink: nft.Link("qn*"), Established: true, Do: nft.Accept},
		nft.Rule{NFProto: four, InLink: uplink, OutLink: nft.Link("qn*"), DNAT: true, Do: nft.Accept},
		nft.Rule{NFProto: four, InLink: uplink, Do: nft.Drop})
	if p.Prefix6.IsValid() {
		rules = append(rules, p.nat66().Rules()...)
	}
	return rules
}

// MetadataChain is the chain of a network's table that counts what was for the metadata of a
// cloud. An older qnet's table has none.
const MetadataChain = "to_metadata"

// linkLocal is where clouds tell a machine its credentials (169.254.169.254, and others). No
// guest has an address there (RFC 3927).
var linkLocal = netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254}), 16)

// forMetadata names the counter of what the chain drops.
const forMetadata = "what is for 169.254.0.0/16, where clouds keep metadata"

// metadataChain drops what guests send to the metadata of the host's cloud, before rules of
// other programs turn it into something else: agents of clusters redirect it to a port of the
// host.
func (p *Plan) metadataChain(br string) nft.Chain {
	c := nft.Chain{Name: MetadataChain, Type: "filter", Hook: nft.Prerouting, Priority: -300, Policy: nft.Accept, Rules: []nft.Rule{
		{InLink: nft.Link(br), Dest: linkLocal, Counts: forMetadata, Do: nft.Drop},
	}}
	for _, a := range nat66.Metadata {
		if p.Prefix6.IsValid() {
			c.Rules = append(c.Rules, nft.Rule{InLink: nft.Link(br), Dest: a, Counts: "what is for " + a.Addr().String() + ", where a cloud keeps metadata", Do: nft.Drop})
		}
	}
	return c
}

// union are the links of both lists, each once.
func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// mssChain keeps TCP working where the uplink's MTU is smaller and a router loses ICMP (F42).
func mssChain(br string) nft.Chain {
	return nft.Chain{Name: "clamp_mss", Type: "filter", Hook: nft.Forward, Priority: -150, Policy: nft.Accept, Rules: []nft.Rule{
		{InLink: nft.Link(br), SYN: true, Do: nft.ClampMSS},
		{OutLink: nft.Link(br), SYN: true, Do: nft.ClampMSS},
	}}
}

// masqueradeChain names no uplink, so that it stays right when the uplink changes (R7), and
// keeps guests off the privileged source ports (F11).
func (p *Plan) masqueradeChain() nft.Chain {
	out := nft.NotLink(p.Bridge)
	c := nft.Chain{Name: "masquerade_guests", Type: "nat", Hook: nft.Postrouting, Priority: 100, Policy: nft.Accept, Rules: []nft.Rule{
		// The host's own packets to its address on the bridge keep their source: a server
		// that sees 127.0.0.1 does not know its client.
		{OutLink: nft.Link("lo"), Do: nft.Accept},
		{OutLink: out, Source: p.Prefix, TCPUDP: true, Do: nft.MasqueradePorts},
		{OutLink: out, Source: p.Prefix, Do: nft.Masquerade},
	}}
	if p.Prefix6.IsValid() {
		c.Rules = append(c.Rules, p.nat66().Masquerade()...)
	}
	return c
}
