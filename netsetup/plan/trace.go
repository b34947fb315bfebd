package plan

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// tracePriority is before every chain that may drop: a packet is followed from where
// it was marked.
const tracePriority = -1000

// TraceSteps mark the packets of one port for `nft monitor trace`, and those that
// come from the addresses given: what a probe asks about its own frames. They
// change nothing of what happens to a packet.
func (p Plan) TraceSteps(port NIC, address netip.Addr, from []netip.Addr) step.List {
	tap := host.TapName(port.VM, port.Index)
	mark := host.PortMark(p.Network.Name, port.VM, port.Index)
	chain := func(name string, hook nft.Hook, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Type: "filter", Hook: hook, Priority: tracePriority, Policy: nft.Accept, Rules: rules}
	}
	to := nft.Rule{OutLink: nft.Link(tap), Do: nft.TracePacket}
	frames := nft.Table{Family: nft.Bridge, Name: TraceTableName(tap), Comment: mark, Chains: []nft.Chain{
		chain("from_guest", nft.Prerouting, nft.Rule{InLink: nft.Link(tap), Do: nft.TracePacket}),
		chain("bridged_to_guest", nft.Forward, to),
		chain("sent_to_guest", nft.Output, to),
	}}
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	var answers, sent []nft.Rule
	for _, a := range from {
		answers = append(answers, nft.Rule{Source: single(a), Do: nft.TracePacket})
	}
	if address.IsValid() {
		sent = append(sent, nft.Rule{Dest: single(address), Do: nft.TracePacket})
	}
	packets := nft.Table{Family: nft.INet, Name: TraceTableName(tap), Comment: mark, Chains: []nft.Chain{
		chain("answers", nft.Prerouting, answers...),
		chain("from_host", nft.Output, sent...),
	}}
	return step.List{step.AddTable{Table: frames}, step.AddTable{Table: packets}}
}

// TraceTableName never is a network's: their names have no "_".
func TraceTableName(tap string) string { return "qnet_trace_" + tap }
