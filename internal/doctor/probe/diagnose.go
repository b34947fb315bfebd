package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// The places a packet passes, with what each proves.
var (
	atHost  = hookAt{false, nft.Prerouting}  // the host's IP has it
	toHost  = hookAt{false, nft.Input}       // it is for the host itself
	through = hookAt{false, nft.Forward}     // the host forwards it
	leaving = hookAt{false, nft.Postrouting} // it has its address for the outside
	sent    = hookAt{false, nft.Output}      // the host's own packet
	toGuest = hookAt{true, nft.Output}       // on its way to the guest's tap
)

// explain finds where the packets of a failed step vanished, and says it in one line
// with the remedy; "" where nothing was found that the error does not say.
func (r *run) explain(ctx context.Context, err error, before counts) string {
	var hole *BlackHole
	var silence *Silence
	var refusal *ICMPError
	var reset *Reset
	switch {
	case errors.As(err, &hole):
		return r.explainBlackHole(hole)
	case errors.As(err, &silence):
		return r.explainSilence(ctx, silence.Flow, before)
	case errors.As(err, &reset):
		return r.refused(ctx, reset.Flow)
	case errors.As(err, &refusal):
		return r.explainICMP(ctx, refusal, before)
	}
	var answer errAnswer
	if errors.As(err, &answer) {
		return r.explainResolvers(ctx)
	}
	return ""
}

// counts are counters from before a step.
type counts struct {
	legacy     filters.Ruleset // nothing where iptables-legacy is not loaded
	rpFiltered uint64
}

func (r *run) count() counts {
	c := counts{rpFiltered: rpFiltered()}
	if loaded, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && len(loaded) > 0 {
		c.legacy = read.Ruleset()
	}
	return c
}

func (r *run) explainSilence(ctx context.Context, f Flow, before counts) string {
	w := r.wayOf(ctx, f)
	if s, ok := dropped(w.out, f); ok {
		return r.explainDrop(s, "")
	}
	if s, ok := dropped(w.back, f); ok {
		return r.explainDrop(s, "the answer: ")
	}
	after := r.count()
	if d, ok := r.counted(f, before, after); ok {
		return r.word(d, "")
	}
	filtered := after.rpFiltered > before.rpFiltered
	switch {
	case r.tracer == nil:
		return r.explainStatically(f)
	case f.Protocol == protoARP || f.Dst == limitedBroadcast:
		return r.explainOnBridge(w)
	case r.uplink() != "":
		return r.explainLAN(ctx, f)
	case reached(w.back, toGuest):
		return "the answer was sent to the guest's tap and did not arrive: look for a tc filter or an XDP program on " + r.guest.Tap
	case len(w.back) > 0 && reached(w.back, through), len(w.back) > 0 && reached(w.back, sent):
		return "the answer vanishes between the host's IP and the tap: look for a filter of ebtables-legacy or tc on " + r.member.Info().Bridge
	case len(w.back) > 0:
		return r.explainLostAnswer(w, f, filtered)
	case reached(w.out, leaving), reached(w.out, through):
		return r.explainNoAnswer(ctx, w, f, filtered)
	case reached(w.out, toHost):
		return r.explainDeaf(ctx, f)
	case reached(w.out, atHost):
		return r.explainRouting(f, filtered)
	}
	return r.explainOnBridge(w)
}

// explainDrop words the rule or policy that a trace says dropped the packet.
func (r *run) explainDrop(s sight, which string) string {
	d, ok := read.Ruleset().DropAt(s.Family, s.Table, s.Chain, s.Handle)
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

// counted is what of iptables-legacy would drop the flow's packets, and has dropped
// some since.
func (r *run) counted(f Flow, before, after counts) (filters.Drop, bool) {
	would := r.wouldDrop(after.legacy, f)
	for _, d := range after.legacy.CountedDrops(before.legacy) {
		if slices.ContainsFunc(would, func(e filters.Drop) bool { return e.Table == d.Table && e.Chain == d.Chain && e.Rule == d.Rule }) {
			return d, true
		}
	}
	return filters.Drop{}, false
}

// explainStatically reads the rules where no packet could be traced.
func (r *run) explainStatically(f Flow) string {
	for _, d := range r.wouldDrop(read.Ruleset(), f) {
		return r.word(d, "")
	}
	return ""
}

// wouldDrop walks a flow's packet and its answer through others' rules.
func (r *run) wouldDrop(rules filters.Ruleset, f Flow) []filters.Drop {
	bridge := r.member.Info().Bridge
	up, _ := r.facts.DefaultLink()
	out := filters.Packet{
		Name: f.String(), In: bridge, Out: up.Name, PortIn: r.guest.Tap, Src: f.Src, Dst: f.Dst, Proto: f.Protocol, Sport: f.ID, Dport: f.Port,
		Path: stages(nft.Prerouting, nft.Forward, nft.Postrouting),
	}
	back := out
	back.In, back.Out, back.PortIn, back.PortOut = up.Name, bridge, "", r.guest.Tap
	back.Src, back.Dst, back.Sport, back.Dport, back.Established = f.Dst, f.Src, f.Port, f.ID, true
	switch {
	case f.Dst == r.member.Info().Gateway:
		out.Path, out.Out, out.DstLocal = stages(nft.Prerouting, nft.Input), "", true
		back.Path, back.In, back.SrcLocal = stages(nft.Output, nft.Postrouting), "", true
	case r.guest.Lease().Prefix.Contains(f.Dst): // another guest, seen by br_netfilter only
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

// explainOnBridge is about frames that no hook of IP has seen.
func (r *run) explainOnBridge(w way) string {
	tap, bridge := r.guest.Tap, r.member.Info().Bridge
	if r.network.Macvtap {
		return r.silentLAN()
	}
	state, _ := os.ReadFile(filepath.Join("/sys/class/net", tap, "brport/state"))
	switch s := strings.TrimSpace(string(state)); {
	case s == "":
		return fmt.Sprintf("tap %s is no port of bridge %s any more: another program took it off: ip link set %s master %s", tap, bridge, tap, bridge)
	case s != "3": // BR_STATE_FORWARDING
		return fmt.Sprintf("bridge %s does not forward for the port yet (state %s): STP is on, its forward delay must be over", bridge, s)
	case len(w.out) == 0:
		return fmt.Sprintf("the frame vanishes between tap %s and bridge %s: look for a chain of nftables at hook ingress, tc or XDP on %s", tap, bridge, tap)
	case len(w.back) > 0:
		return fmt.Sprintf("an answer comes back to bridge %s and does not reach the tap", bridge)
	case r.uplink() != "":
		return r.silentLAN()
	}
	return fmt.Sprintf("the frame reaches bridge %s and nobody answers: the network's keeper (process %d) does not, look with: qnet net", bridge, r.member.Info().KeeperPID)
}

// explainLAN is about packets that a LAN's machines do not answer.
func (r *run) explainLAN(ctx context.Context, f Flow) string {
	if !r.hostReaches(ctx, f) {
		r.beyond = true
		return fmt.Sprintf("the host itself gets no answer from %s either: the fault is beyond this host", f.Dst)
	}
	return fmt.Sprintf("%s answers the host itself: what is behind %s drops the guest's packets", f.Dst, r.uplink())
}

func (r *run) silentLAN() string {
	link := r.uplink()
	if l, ok := r.facts.Link(link); ok && !l.Carrier {
		return fmt.Sprintf("%s has no link: look at its cable and the switch", link)
	}
	return fmt.Sprintf("nothing on the LAN behind %s answers: it has no such server, or its switch drops frames of a MAC that it does not know", link)
}

// uplink is the link of a bridge-mode network to the LAN, "" in the other modes.
func (r *run) uplink() string {
	info := r.member.Info()
	if info.Mode == "bridge" && len(info.Uplinks) > 0 {
		return info.Uplinks[0]
	}
	return ""
}

// explainDeaf is about packets that the host took in and did not answer.
func (r *run) explainDeaf(ctx context.Context, f Flow) string {
	if f.Port == 53 && r.passed("name host.qnet") {
		return r.explainResolvers(ctx)
	}
	if f.Protocol == protoICMP {
		if v, _ := os.ReadFile("/proc/sys/net/ipv4/icmp_echo_ignore_all"); strings.TrimSpace(string(v)) == "1" {
			return "the host answers no ping at all: sysctl -w net.ipv4.icmp_echo_ignore_all=0"
		}
	}
	return fmt.Sprintf("the host takes the packet in and nothing on it answers %s; look with: qnet net", f)
}

// passed reports whether a step before passed.
func (r *run) passed(name string) bool {
	return slices.ContainsFunc(r.steps, func(s Step) bool { return s.Name == name && s.Outcome == Pass })
}

// explainRouting is about packets that came to the host's IP and got no route.
func (r *run) explainRouting(f Flow, filtered bool) string {
	bridge := r.member.Info().Bridge
	if filtered {
		return fmt.Sprintf("dropped by rp_filter on %s, which finds no route back to %s by it (IPReversePathFilter rises): sysctl -w net.ipv4.conf.all.rp_filter=2", bridge, f.Src)
	}
	if err := host.RouteFor(f.Dst, f.Src, bridge); err != nil {
		return fmt.Sprintf("no route: the host has none to %s for what comes from %s (%s): look with: ip route get %s from %s iif %s",
			f.Dst, bridge, routeError(err), f.Dst, f.Src, bridge)
	}
	if !forwards(bridge) {
		return fmt.Sprintf("the host does not forward: sysctl -w net.ipv4.conf.%s.forwarding=1", bridge)
	}
	return r.explainStatically(f)
}

// forwards reports whether the host forwards what comes in by a link.
func forwards(link string) bool {
	v, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/forwarding")
	return err != nil || strings.TrimSpace(string(v)) != "0"
}

// routeError words the kernel's answer to who asks for a route.
func routeError(err error) string {
	switch {
	case errors.Is(err, unix.EINVAL):
		return "a blackhole route, or one that leads back"
	case errors.Is(err, unix.EACCES):
		return "a prohibit route"
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return "unreachable"
	}
	return err.Error()
}

// explainLostAnswer is about an answer that came back to the host and not to the guest.
func (r *run) explainLostAnswer(w way, f Flow, filtered bool) string {
	link := r.linkName(w.back[0].In)
	if filtered {
		return fmt.Sprintf("the answer is dropped by rp_filter on %s: the host's route to %s leaves by another link (IPReversePathFilter rises): "+
			"sysctl -w net.ipv4.conf.%s.rp_filter=2", link, f.Dst, link)
	}
	if !forwards(link) {
		return fmt.Sprintf("the answer comes in by %s, which does not forward: sysctl -w net.ipv4.conf.%s.forwarding=1", link, link)
	}
	return fmt.Sprintf("the answer comes back by %s and is not translated back to the guest: look with: conntrack -L -s %s", link, f.Src)
}

// explainNoAnswer is about what left the host and was not answered.
func (r *run) explainNoAnswer(ctx context.Context, w way, f Flow, filtered bool) string {
	out := r.linkName(w.out[len(w.out)-1].Out)
	if text := r.explainTranslation(w, f, out); text != "" {
		return text
	}
	if filtered {
		return fmt.Sprintf("the answer is dropped by rp_filter: the host's route to %s leaves by another link than the answer comes by "+
			"(IPReversePathFilter rises): sysctl -w net.ipv4.conf.all.rp_filter=2, and of the link", f.Dst)
	}
	if hop := r.nextHopOf(f.Dst); hop.IsValid() && host.NeighborFailed(hop) {
		return fmt.Sprintf("the uplink is dead: %s does not answer ARP on %s: look at the cable, the Wi-Fi and the router behind it", hop, out)
	}
	if !r.hostReaches(ctx, f) {
		r.beyond = true
		return fmt.Sprintf("sent out by %s, and the host itself gets no answer from %s either: the fault is beyond this host", out, f.Dst)
	}
	return fmt.Sprintf("sent out by %s and not answered, though %s answers the host itself: something behind %s drops what is forwarded", out, f.Dst, out)
}

// explainTranslation looks whether the packet left with an address that answers
// come back to.
func (r *run) explainTranslation(w way, f Flow, out string) string {
	if r.network.Mode != "nat" {
		return ""
	}
	entry, found := host.Tracked(f.Src, f.Dst, f.Protocol)
	switch {
	case !found:
		return fmt.Sprintf("not masqueraded: the connection is not tracked, so the packet leaves by %s with the guest's own address %s%s", out, f.Src, r.notrack())
	case entry == f.Src:
		return fmt.Sprintf("not masqueraded: the packet leaves by %s with the guest's own address %s%s", out, f.Src, r.translator(w))
	case !r.hasAddress(entry):
		return fmt.Sprintf("masqueraded wrongly: the packet leaves by %s as %s, which is no address of this host%s", out, entry, r.translator(w))
	}
	return ""
}

// notrack names a rule that keeps packets from being tracked.
func (r *run) notrack() string {
	for _, t := range read.Ruleset().Tables {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				if strings.Contains(strings.ToLower(rule.Text), "notrack") {
					return fmt.Sprintf(": table %s %s chain %s has the rule %q", t.Family, t.Name, c.Name, rule.Text)
				}
			}
		}
	}
	return ""
}

// translator names the rule of another's nat chain that took the packet first.
func (r *run) translator(w way) string {
	for _, s := range w.out {
		if s.at != leaving || s.Verdict != nft.Accepted || s.Policy || strings.HasPrefix(s.Table, "qnet_") {
			continue
		}
		if d, ok := read.Ruleset().DropAt(s.Family, s.Table, s.Chain, s.Handle); ok {
			return fmt.Sprintf(": table %s %s chain %s, rule %q (%s), comes before qnet's", d.Family, d.Table, d.Chain, d.Rule, d.Program)
		}
	}
	return ""
}

func (r *run) hasAddress(a netip.Addr) bool {
	for _, l := range r.facts.Links {
		for _, p := range l.Addresses {
			if p.Addr() == a {
				return true
			}
		}
	}
	return false
}

func (r *run) linkName(index int) string {
	for _, l := range r.facts.Links {
		if l.Index == index {
			return l.Name
		}
	}
	return fmt.Sprintf("link %d", index)
}

// nextHopOf is the gateway of the host's default route, or the address itself where
// a link of the host's has it in its prefix.
func (r *run) nextHopOf(a netip.Addr) netip.Addr {
	for _, l := range r.facts.Links {
		for _, p := range l.Addresses {
			if p.Contains(a) {
				return a
			}
		}
	}
	for _, route := range r.facts.Routes {
		if route.Dst.Bits() == 0 && route.Via.IsValid() {
			return route.Via
		}
	}
	return netip.Addr{}
}

// explainICMP is about an ICMP error in place of an answer.
func (r *run) explainICMP(ctx context.Context, e *ICMPError, before counts) string {
	if e.From != r.member.Info().Gateway && !r.hasAddress(e.From) {
		return fmt.Sprintf("the router %s refuses it, beyond this host", e.From)
	}
	if text := r.refused(ctx, e.Flow); text != "" {
		return text
	}
	if d, ok := r.counted(e.Flow, before, r.count()); ok {
		return r.word(d, "")
	}
	if e.Type != 3 || e.Code > 1 {
		return ""
	}
	if hop := r.nextHopOf(netip.IPv4Unspecified()); hop.IsValid() && host.NeighborFailed(hop) {
		return fmt.Sprintf("the uplink is dead: %s does not answer ARP: look at the cable, the Wi-Fi and the router behind it", hop)
	}
	return "no route: the host has no route there: look with: ip route; a default route is what is missing most often"
}

// refused names the rule that answered the guest with an ICMP error or a RST.
func (r *run) refused(ctx context.Context, f Flow) string {
	w := r.wayOf(ctx, f)
	if s, ok := dropped(w.out, f); ok {
		return r.explainDrop(s, "")
	}
	return ""
}

func (r *run) explainBlackHole(e *BlackHole) string {
	link, _ := r.facts.DefaultLink()
	text := fmt.Sprintf("MTU black hole behind %s: %s", link.Name, e)
	if e.Passes == 0 {
		return text
	}
	return text + fmt.Sprintf(": ip link set %s mtu %d, to which qnet clamps guests' TCP", link.Name, e.Passes)
}

// explainResolvers asks the host's resolvers as the host does.
func (r *run) explainResolvers(ctx context.Context) string {
	if len(r.facts.Resolvers) == 0 {
		return "the host has no resolver: /etc/resolv.conf names none"
	}
	var dead []string
	for _, a := range r.facts.Resolvers {
		if HostResolves(ctx, a) {
			return fmt.Sprintf("the host's resolver %s answers the host; the network's name server does not get its answer in time: look with: qnet net", a)
		}
		dead = append(dead, a.String())
	}
	return fmt.Sprintf("DNS is dead on the host itself: none of its resolvers answers (%s): look at /etc/resolv.conf", strings.Join(dead, ", "))
}
