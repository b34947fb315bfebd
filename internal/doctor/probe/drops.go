package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// explainDrop names the rule or policy that, in the trace, dropped the packet.
func (r *run) explainDrop(s sight, which string) string {
	d, ok := r.rules().DropAt(s.Family, s.Table, s.Chain, s.Handle)
	if !ok {
		d = filters.Drop{
			Engine: filters.NFTables, Family: s.Family, Table: s.Table, Chain: s.Chain, Base: s.Chain,
			Program: "a program that has removed it since",
		}
		if strings.HasPrefix(s.Table, "qnet_") {
			d.Program = "qnet itself"
		}
	}
	if !s.Policy {
		d.Rule = strings.TrimSpace(fmt.Sprintf("%s # handle %d", d.Rule, s.Handle)) // as nft -a prints it
	}
	if d.Hook == "" {
		d.Hook = s.at.hook
	}
	return r.word(d, which)
}

// counted is a rule or policy of iptables-legacy that drops packets of the flow and
// whose counter rose in between.
func (r *run) counted(f guest.Flow, before, after counts) (filters.Drop, bool) {
	would := r.wouldDrop(after.legacy, f)
	for _, d := range after.legacy.CountedDrops(before.legacy) {
		if slices.ContainsFunc(would, func(e filters.Drop) bool { return e.Table == d.Table && e.Chain == d.Chain && e.Rule == d.Rule }) {
			return d, true
		}
	}
	return filters.Drop{}, false
}

// explainStatically names the rule or policy that drops packets of the flow as the rules
// are. It needs no trace.
func (r *run) explainStatically(f guest.Flow) string {
	for _, d := range r.wouldDrop(r.rules(), f) {
		return r.word(d, "")
	}
	return ""
}

// wouldDrop walks a packet of the flow and the reply through the rules of other programs.
func (r *run) wouldDrop(rules filters.Ruleset, f guest.Flow) []filters.Drop {
	bridge := r.info.Bridge
	up, _ := r.facts.DefaultLink()
	out := filters.Packet{
		Name: f.String(), In: bridge, Out: up.Name, PortIn: r.guest.Tap, Src: f.Src, Dst: f.Dst, Proto: f.Protocol, Sport: f.ID, Dport: f.Port,
		Path: stages(nft.Prerouting, nft.Forward, nft.Postrouting),
	}
	back := out
	back.In, back.Out, back.PortIn, back.PortOut = up.Name, bridge, "", r.guest.Tap
	back.Src, back.Dst, back.Sport, back.Dport, back.Established = f.Dst, f.Src, f.Port, f.ID, true
	switch {
	case f.Dst == r.info.Gateway:
		out.Path, out.Out, out.DstLocal = stages(nft.Prerouting, nft.Input), "", true
		back.Path, back.In, back.SrcLocal = stages(nft.Output, nft.Postrouting), "", true
	case r.guest.Lease().Prefix.Contains(f.Dst): // another guest: br_netfilter alone shows it
		out.Out, back.In = bridge, bridge
	}
	return append(rules.Drops(out), rules.Drops(back)...)
}

func stages(hooks ...nft.Hook) []filters.Stage {
	var path []filters.Stage
	for _, h := range hooks {
		path = append(path, filters.Stage{Hook: h})
	}
	return path
}
