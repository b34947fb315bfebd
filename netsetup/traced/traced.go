// Package traced marks the packets of a probe's port, so that package nft/trace can follow them. It
// is pure.
package traced

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// tracePriority comes before every chain that may drop: the trace of a packet begins where a
// rule marks it.
const tracePriority = -1000

// Steps mark the packets of one port for `nft monitor trace`, those that the host sends
// to the address, and those that come from the addresses in from: a probe's own traffic. The
// rules change nothing else; the tables bear the mark of the port. A zero address is none.
func Steps(tap, mark string, address netip.Addr, from []netip.Addr) step.List {
	chain := func(name string, hook nft.Hook, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Type: "filter", Hook: hook, Priority: tracePriority, Policy: nft.Accept, Rules: rules}
	}
	to := nft.Rule{OutLink: nft.Link(tap), Do: nft.TracePacket}
	frames := nft.Table{Family: nft.Bridge, Name: TableName(tap), Comment: mark, Chains: []nft.Chain{
		chain("from_guest", nft.Prerouting, nft.Rule{InLink: nft.Link(tap), Do: nft.TracePacket}),
		chain("bridged_to_guest", nft.Forward, to),
		chain("sent_to_guest", nft.Output, to),
	}}
	// The guard of the port drops before the bridge sees a frame.
	ingress := chain("to_port", nft.Ingress, nft.Rule{Do: nft.TracePacket})
	ingress.Device = tap
	port := nft.Table{Family: nft.NetDev, Name: TableName(tap), Comment: mark, Chains: []nft.Chain{ingress}}
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	var replies, sent []nft.Rule
	for _, a := range from {
		replies = append(replies, nft.Rule{Source: single(a), Do: nft.TracePacket})
	}
	if address.IsValid() {
		sent = append(sent, nft.Rule{Dest: single(address), Do: nft.TracePacket})
	}
	packets := nft.Table{Family: nft.INet, Name: TableName(tap), Comment: mark, Chains: []nft.Chain{
		chain("answers", nft.Prerouting, replies...),
		chain("from_host", nft.Output, sent...),
	}}
	return step.List{step.AddTable{Table: port}, step.AddTable{Table: frames}, step.AddTable{Table: packets}}
}

// TableName is the name of the tables of Steps. No network's tables have it: the
// name of a network has no "_".
func TableName(tap string) string { return "qnet_trace_" + tap }
