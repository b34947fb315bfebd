package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// networkChecks are about what on the host is in the way of a network.
var networkChecks = []Check{
	{Name: "plan", Run: checkPlans},
	{Name: "filters", Run: checkFilters},
	{Name: "br_netfilter", Modes: all, Run: checkBridgeNetfilter},
	{Name: "guards", Modes: all, Run: checkGuards},
	{Name: "uplinks", Modes: routed, Run: checkUplinks},
	{Name: "MTU", Modes: routed, Run: checkMTU},
	{Name: "rp_filter", Modes: routed, Run: checkRPFilter},
	{Name: "conntrack", Modes: routed, Run: checkConntrack},
	{Name: "port 53", Modes: served, Run: checkPort53},
	{Name: "resolver", Modes: served, Run: checkResolvers},
	{Name: "managers", Modes: all, Run: checkManagers},
}

// checkPlans reports the plan of each network, or why there is none: its subnet is in
// use, its uplink cannot be a port, another link has its name.
func checkPlans(_ context.Context, h *Host) []Finding {
	var list []Finding
	for _, p := range h.plans {
		f := Finding{Status: Pass, Modes: []profiles.Mode{p.network.Mode}}
		switch {
		case p.err == nil && p.network.Mode == profiles.Bridge && len(p.plan.Unreached) > 0:
			f.Status, f.Evidence = Warn, strings.Join(p.plan.Unreached, "; ")
		case p.err == nil:
			f.Evidence = p.text()
		case h.runs(p.network.Name):
			f.Evidence = fmt.Sprintf("network %s: it runs, on bridge %s", p.network.Name, host.BridgeName(p.network.Name))
		case h.asked || p.network.Mode != profiles.Bridge:
			f.Status, f.Evidence, f.Remedy = Fail, p.err.Error(), "change the profile as the text says"
		default:
			// Most hosts have no NIC to spare, and the user has not asked for this mode.
			f.Status, f.Evidence, f.Remedy = Warn, p.err.Error(), "name a bridge or a NIC with [network.NAME] uplink; or use mode = \"nat\""
		}
		list = append(list, f)
	}
	return list
}

// text is the plan in short.
func (p planned) text() string {
	text := fmt.Sprintf("network %s: bridge %s", p.network.Name, p.plan.Bridge)
	if p.network.Macvtap {
		text = fmt.Sprintf("network %s: macvtap on %s", p.network.Name, p.plan.Network.Uplink)
	}
	if p.network.Mode == profiles.Bridge && !p.network.Macvtap && p.plan.Network.Uplink != p.plan.Bridge {
		text += ", to the LAN by " + p.plan.Network.Uplink
	}
	if p.plan.Prefix.IsValid() {
		text += fmt.Sprintf(", subnet %s is free", p.plan.Prefix)
	}
	return text
}

// runs reports whether VMs are on the network. Its plan then fails, because the network
// itself uses the uplink.
func (h *Host) runs(network string) bool {
	l, ok := h.facts.Link(host.BridgeName(network))
	return ok && l.Alias == filters.Mark(network)
}

// checkFilters reports for each network what the filters of other programs would drop,
// and what a run would do about it.
func checkFilters(_ context.Context, h *Host) []Finding {
	var list []Finding
	for _, why := range h.facts.Filters.Unread {
		list = append(list, Finding{Status: Unseen, Modes: all, Evidence: why, Remedy: "sudo qnet doctor"})
	}
	for _, p := range h.plans {
		if p.err != nil {
			continue
		}
		list = append(list, answered(p.network, p.plan.Answers(p.facts.Filters, p.facts.Firewalld.Running))...)
		if program, open := p.plan.ClosedTo(p.facts.Filters, p.facts.Firewalld.Running); program != "" {
			list = append(list, Finding{Status: Pass, Modes: []profiles.Mode{p.network.Mode}, Evidence: fmt.Sprintf(
				"network %s: %s keeps guests from the host's own services, but for DNS and ping; to open port N: %s", p.network.Name, program, open)})
		}
	}
	list = append(list, barredForwards(h)...)
	if list == nil {
		return one(Pass, "", "no filter of another program drops what networks need")
	}
	return list
}

// barredForwards are the findings about programs that keep other machines from the profile's
// forwarded ports.
func barredForwards(h *Host) []Finding {
	var list []Finding
	for _, p := range h.plans {
		if p.err != nil || h.Profile == nil {
			continue
		}
		for _, n := range h.Profile.NICs {
			if n.Network != p.network.Name {
				continue
			}
			for _, b := range p.plan.Barriers(p.facts.Filters, n.Forwards) {
				list = append(list, Finding{
					Status: Warn, Modes: []profiles.Mode{n.Mode}, Remedy: b.Remedy.String(),
					Evidence: fmt.Sprintf("network %s: forward %s: %s", p.network.Name, b.Forward, b.Why),
				})
			}
		}
	}
	return list
}

// answered are the findings about what other programs drop of a network: one for each
// answer that the user must give, and one for all accepts that a run inserts.
func answered(n plan.Network, answers []filters.Answer) []Finding {
	var list []Finding
	var accepts []filters.AcceptRule
	modes := []profiles.Mode{n.Mode}
	for _, a := range answers {
		accepts = append(accepts, a.Accepts...)
		if len(a.Accepts) == 0 {
			evidence := fmt.Sprintf("network %s: %s", n.Name, a.Evidence)
			list = append(list, Finding{Status: Fail, Modes: modes, Evidence: evidence, Remedy: a.Remedy.String()})
		}
	}
	if len(accepts) == 0 {
		return list
	}
	f := Finding{Status: Pass, Modes: modes, Evidence: fmt.Sprintf(
		"other programs drop packets of network %s; qnet puts in their chains while it runs: %s", n.Name, accepts[0].Command("-I"))}
	if more := len(accepts) - 1; more > 0 {
		f.Evidence += fmt.Sprintf(" (and %d more, see qnet plan)", more)
	}
	return append(list, f)
}

func checkBridgeNetfilter(_ context.Context, h *Host) []Finding {
	on := func(b bool) string {
		if b {
			return "on"
		}
		return "off"
	}
	f := h.facts.Filters
	return one(Pass, "", "frames between guests go through iptables: IPv4 %s, IPv6 %s (the check filters lists what drops them)", on(f.BridgeIPv4), on(f.BridgeIPv6))
}

// checkUplinks reports by which links guests leave, as the plan of each network decides it.
func checkUplinks(_ context.Context, h *Host) []Finding {
	var list []Finding
	for _, p := range h.natPlans() {
		list = append(list, h.uplinksOf(p)...)
	}
	if list == nil {
		return one(Unseen, "", "no network of mode nat has a plan")
	}
	return list
}

// natPlans are the plans of the networks of mode nat. Where there is no such network, it is
// what one would use.
func (h *Host) natPlans() []plan.Plan {
	var list []plan.Plan
	nat := false
	for _, p := range h.plans {
		nat = nat || p.network.Mode == profiles.NAT
		if p.err == nil && p.network.Mode == profiles.NAT {
			list = append(list, p.plan)
		}
	}
	if !nat {
		list = []plan.Plan{{Uplinks: h.facts.Uplinks(), Beside: h.facts.Beside()}}
	}
	return list
}

func (h *Host) uplinksOf(p plan.Plan) []Finding {
	var list []Finding
	for _, text := range p.Unreached {
		list = append(list, Finding{Status: Warn, Evidence: text})
	}
	leave := "guests leave by " + h.forwardingOf(p.Uplinks)
	if len(p.Beside) > 0 {
		leave += ", and reach what is behind " + h.forwardingOf(p.Beside)
	}
	_, online := h.facts.DefaultLink()
	switch {
	case list != nil:
		return list
	case len(p.Uplinks) == 0:
		return one(Warn, "connect the host to a network", "the host has no uplink: guests reach the host only")
	case !online:
		return one(Warn, "ip route add default via GATEWAY", "no default route: guests reach what %s leads to, and nothing else", h.forwardingOf(p.Uplinks))
	}
	return one(Pass, "", "%s", leave)
}

// forwardingOf lists links, 8 at most, and what becomes of their forwarding.
func (h *Host) forwardingOf(names []string) string {
	const most = 8
	var list []string
	for i, name := range names {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		forwarding := "its forwarding is turned on while guests run"
		if h.sysctl("ipv4/conf/"+name+"/forwarding") == "1" {
			forwarding = "forwards"
		}
		list = append(list, fmt.Sprintf("%s (%s)", name, forwarding))
	}
	return strings.Join(list, ", ")
}

// checkMTU reports the MTU of the link by which guests leave.
func checkMTU(_ context.Context, h *Host) []Finding {
	var list []Finding
	told := map[string]bool{}
	for _, p := range h.natPlans() {
		_, online := h.facts.DefaultLink()
		if len(p.Uplinks) == 0 || !online && p.Network.Uplink == "" {
			return one(Unseen, "", "no default route, so no uplink")
		}
		if l, ok := h.facts.Link(p.Uplinks[0]); ok && !told[l.Name] {
			told[l.Name] = true
			list = append(list, mtuOf(l)...)
		}
	}
	if list == nil {
		return one(Unseen, "", "no network of mode nat has an uplink")
	}
	return list
}

func mtuOf(l host.Link) []Finding {
	if l.MTU < host.DefaultMTU {
		return one(Warn, "", "%s has MTU %d: guests' TCP is clamped to it, larger UDP datagrams are fragmented or refused; mtu = %d in the profile's [network.NAME] tells guests; look further with qnet doctor --probe", l.Name, l.MTU, l.MTU)
	}
	return one(Pass, "", "%s has MTU %d", l.Name, l.MTU)
}

func checkRPFilter(_ context.Context, h *Host) []Finding {
	var strict []string
	every := h.sysctl("ipv4/conf/all/rp_filter")
	links := h.uplinks()
	for _, l := range links {
		own := h.sysctl("ipv4/conf/" + l.Name + "/rp_filter")
		if max(every, own) == "1" { // the greater of the two counts
			strict = append(strict, l.Name)
		}
	}
	if len(strict) > 0 && len(links) > 1 {
		return one(Warn, "sysctl -w net.ipv4.conf."+strict[0]+".rp_filter=2",
			"strict on %s, and the host has %d uplinks: it drops a reply that comes by another uplink than its request left by", strings.Join(strict, ", "), len(links))
	}
	if len(strict) > 0 {
		return one(Pass, "", "strict on %s, the only uplink", strict[0])
	}
	return one(Pass, "", "off or loose on the uplinks")
}

// checkConntrack checks that there is room for new connections. If there is none, the
// kernel drops the first packet of each.
func checkConntrack(_ context.Context, h *Host) []Finding {
	now, ok := h.number("proc/sys/net/netfilter/nf_conntrack_count")
	most, known := h.number("proc/sys/net/netfilter/nf_conntrack_max")
	if !ok || !known {
		return one(Pass, "", "nothing is tracked yet")
	}
	if now > most*9/10 {
		return one(Warn, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most), "%d connections are tracked, %d fit: new ones are dropped when it is full", now, most)
	}
	return one(Pass, "", "%d connections are tracked, %d fit", now, most)
}

func checkPort53(context.Context, *Host) []Finding {
	if who := dns.Holders(); who != "" {
		return one(Warn, "bind it to the addresses it is for, and not to all (dnsmasq: --bind-interfaces)",
			"held on all addresses%s: networks' names are served over UDP only", who)
	}
	return one(Pass, "", "free on the addresses that networks get")
}

func checkManagers(_ context.Context, h *Host) []Finding {
	var informed []string
	for _, p := range h.facts.Managers {
		if advice := managers.Advice(p); advice != "" {
			return one(Warn, advice, "%s runs, and takes no setting at run time to leave VMs' links alone", p)
		}
		informed = append(informed, string(p))
	}
	if informed == nil {
		return one(Pass, "", "no program that configures links runs here")
	}
	return one(Pass, "", "qnet tells %s to leave qn* alone while VMs run", strings.Join(informed, ", "))
}
