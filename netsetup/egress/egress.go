// Package egress decides what a guest may reach beyond what the mode of its network says: tables of
// nftables for its port, by the policy of its NIC.
//
// The tables are the port's own, in place of rules of the network's: so they come and go with the
// VM, cost other guests no more than a look at the link, and a chain that ends with a rejection
// fails closed whatever rule before it is missing. They tell the guest by its MAC, which holds
// for IPv4 and IPv6 alike because the port's guard lets the guest use no other one: without a guard
// there is no policy.
//
// The package is pure; its values may be used concurrently.
package egress

import (
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// Port is what the rules must know of a port.
type Port struct {
	Link   string           // its name
	Mark   string           // host.PortMark
	MAC    net.HardwareAddr // the guest's own
	Policy reach.Policy

	Bridge    string
	BridgeMAC net.HardwareAddr
	Gateways  []netip.Addr   // the host's addresses on the bridge; none in mode private
	OnLink    []netip.Prefix // of onlink.Read, for a guest without LAN
}

// On returns the port on a bridge that the steps of its network make.
func (p Port) On(network step.List) Port {
	if b, ok := step.Find[step.AddBridge](network); ok {
		p.BridgeMAC = b.MAC
	}
	for _, a := range step.All[step.AddAddr](network) {
		if a.Link == p.Bridge {
			p.Gateways = append(p.Gateways, a.Prefix.Addr())
		}
	}
	return p
}

// Chains of the tables.
const (
	ForwardChain = "from_guest_on"
	InputChain   = "from_guest_to_host"
	DNSChain     = "own_resolver"
	BridgeChain  = "between_guests"
)

// What the rules count, as the counters are called.
const (
	ToNeighbours = "between this guest and its neighbours"
	ToHost       = "to the host"
	ToLAN        = "to networks of the host's"
	ToDenied     = "to what egress denies"
	ToOthers     = "to what egress does not allow"
)

// Counter is a chain whose rules count what they refuse.
type Counter struct {
	Family nft.Family
	Chain  string
}

// Counting are the chains of a port with the policy that count.
func Counting(p reach.Policy) []Counter {
	var list []Counter
	if p.Isolated {
		list = append(list, Counter{nft.Bridge, BridgeChain})
	}
	if p.NoLAN || p.Listed {
		list = append(list, Counter{nft.INet, ForwardChain})
	}
	if p.NoHost {
		list = append(list, Counter{nft.INet, InputChain})
	}
	return list
}

// TableName is the name of the tables of a port. No network's table has it: the name of a network
// has no "_".
func TableName(port string) string { return "qnet_reach_" + port }

// TableSteps add the tables. They come before the link is a port of the bridge.
func (p Port) TableSteps() step.List {
	var steps step.List
	if t := (nft.Table{Family: nft.Bridge, Name: TableName(p.Link), Comment: p.Mark, Chains: p.bridgeChains()}); len(t.Chains) > 0 {
		steps = append(steps, step.AddTable{Table: t})
	}
	if t := (nft.Table{Family: nft.INet, Name: TableName(p.Link), Comment: p.Mark, Sets: p.sets(), Chains: p.chains()}); len(t.Chains) > 0 {
		steps = append(steps, step.AddTable{Table: t})
	}
	return steps
}

// LinkSteps come after the link is a port of the bridge, and before it is up.
func (p Port) LinkSteps() step.List {
	if !p.Policy.Isolated {
		return nil
	}
	return step.List{Isolate{Link: p.Link}}
}

// bridgeChains drop what the bridge would pass on between the port and any other one. The kernel's
// own isolation of ports (Isolate) separates isolated ports from each other alone, and stands
// where another program removes the table.
func (p Port) bridgeChains() []nft.Chain {
	if !p.Policy.Isolated {
		return nil
	}
	return []nft.Chain{{Name: BridgeChain, Type: "filter", Hook: nft.Forward, Policy: nft.Accept, Rules: []nft.Rule{
		{InLink: nft.Link(p.Link), Counts: ToNeighbours, Do: nft.Drop},
		{OutLink: nft.Link(p.Link), Counts: ToNeighbours, Do: nft.Drop},
	}}}
}

func (p Port) chains() []nft.Chain {
	var chains []nft.Chain
	if rules := p.forwardRules(); len(rules) > 0 {
		chains = append(chains, nft.Chain{Name: ForwardChain, Type: "filter", Hook: nft.Forward, Policy: nft.Accept, Rules: rules})
	}
	if p.Policy.NoHost {
		chains = append(chains, nft.Chain{Name: InputChain, Type: "filter", Hook: nft.Input, Policy: nft.Accept, Rules: p.inputRules()})
	}
	if p.Policy.Listed {
		chains = append(chains, nft.Chain{Name: DNSChain, Type: "nat", Hook: nft.Prerouting, Priority: -100, Policy: nft.Accept, Rules: p.dnsRules()})
	}
	return chains
}

// dnsRules lead what the guest asks other name servers to qnet's.
func (p Port) dnsRules() []nft.Rule {
	own := nft.Is(nft.EtherSource, nft.MACValue(p.MAC))
	rule := func(proto string) nft.Rule {
		return nft.Rule{InLink: nft.Link(p.Bridge), Frame: []nft.Match{own, nft.Is(nft.Transport, proto), nft.Is(nft.DestPort, "53")}, Do: nft.RedirectDNS}
	}
	return []nft.Rule{rule("udp"), rule("tcp")}
}

func (p Port) forwardRules() []nft.Rule {
	var rules []nft.Rule
	if p.Policy.Isolated && len(p.Gateways) > 0 {
		// A frame for the bridge's MAC with a packet for a neighbour: the host would route it
		// back to the bridge. br_netfilter shows frames between guests here, too, which are for
		// a guest's MAC.
		rules = append(rules, nft.Rule{
			InLink: nft.Link(p.Bridge), OutLink: nft.Link(p.Bridge), Frame: []nft.Match{nft.Is(nft.EtherDest, nft.MACValue(p.BridgeMAC))},
			Counts: ToNeighbours, Do: nft.Drop,
		})
	}
	if !p.Policy.NoLAN && !p.Policy.Listed {
		return rules
	}
	rules = append(append(rules, p.onlyGuest()...), nft.Rule{OutLink: nft.Link(p.Bridge), Do: nft.Accept})
	if p.Policy.Listed {
		return append(rules, p.listRules()...)
	}
	return append(append(rules,
		accept(nft.Is(nft.IPVersion, "ipv4"), nft.IsNot(nft.IPDest, "@"+lan4)),
		accept(nft.Is(nft.IPVersion, "ipv6"), nft.IsNot(nft.IP6Dest, "@"+lan6)),
	), refuse(ToLAN)...)
}

// inputRules let the guest speak to the services that a guest cannot do without. qnet's DHCP
// servers receive by packet sockets, before any rule.
func (p Port) inputRules() []nft.Rule {
	rules := append(p.onlyGuest(), nft.Rule{Frame: []nft.Match{nft.Is(nft.Transport, "udp"), nft.Is(nft.DestPort, "67", "547")}, Do: nft.Drop})
	for _, g := range p.Gateways {
		to, echo := []nft.Match{nft.Is(nft.IPVersion, "ipv4"), nft.Is(nft.IPDest, g.String())}, nft.Is(nft.ICMPType, "8")
		ping := nft.Is(nft.Transport, "icmp")
		if g.Is6() {
			to, echo = []nft.Match{nft.Is(nft.IPVersion, "ipv6"), nft.Is(nft.IP6Dest, g.String())}, nft.Is(nft.ICMPv6Type, "128")
			ping = nft.Is(nft.Transport, "ipv6-icmp")
		}
		rules = append(rules,
			accept(to[0], to[1], nft.Is(nft.Transport, "tcp", "udp"), nft.Is(nft.DestPort, "53")),
			accept(to[0], to[1], ping, echo))
	}
	// Groups, and neighbour discovery: without them the guest finds no gateway by IPv6.
	rules = append(rules, accept(nft.Is(nft.Transport, "ipv6-icmp"), nft.Is(nft.ICMPv6Type, "131", "132", "133", "135", "136", "143")))
	return append(rules, refuse(ToHost)...)
}

// onlyGuest leaves to the rules behind it what the guest begins: a packet without a MAC of its own
// stays with them.
func (p Port) onlyGuest() []nft.Rule {
	return []nft.Rule{
		{InLink: nft.NotLink(p.Bridge), Do: nft.Accept},
		accept(nft.IsNot(nft.EtherSource, nft.MACValue(p.MAC))),
		{Established: true, Do: nft.Accept},
	}
}

// refuse lets the guest learn at once that it may not. Without matches it ends a chain.
func refuse(what string, m ...nft.Match) []nft.Rule {
	return []nft.Rule{
		{Frame: append(slices.Clip(m), nft.Is(nft.Transport, "tcp")), Counts: what, Do: nft.RejectTCP},
		{Frame: m, Counts: what, Do: nft.Reject},
	}
}

func accept(m ...nft.Match) nft.Rule { return nft.Rule{Frame: m, Do: nft.Accept} }
