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

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// The hooks that a packet passes, with what each proves.
var (
	atHost  = hookAt{false, nft.Prerouting}  // the host's IP has it
	toHost  = hookAt{false, nft.Input}       // it is for the host itself
	through = hookAt{false, nft.Forward}     // the host forwards it
	leaving = hookAt{false, nft.Postrouting} // it has its address for the outside
	sent    = hookAt{false, nft.Output}      // the host's own packet
	toGuest = hookAt{true, nft.Output}       // on its way to the guest's tap
)

// explain says in one line where the packets of a failed step vanished and what to do;
// "" if it knows no more than the error.
func (r *run) explain(ctx context.Context, err error, before counts) string {
	var hole *BlackHole
	var silence *guest.Silence
	var refusal *guest.ICMPError
	var reset *Reset
	var silent *silent6
	switch {
	case errors.As(err, &silent):
		return silent.look
	case errors.As(err, &hole):
		return r.explainBlackHole(hole)
	case errors.As(err, &silence):
		return r.explainSilence(ctx, silence.Flow, before)
	case errors.As(err, &reset):
		return r.refused(ctx, reset.Flow)
	case errors.As(err, &refusal):
		return r.explainICMP(ctx, refusal, before)
	}
	var answer guest.AnswerError
	if errors.As(err, &answer) {
		return r.explainResolvers(ctx)
	}
	return ""
}

// counts are counters, taken before a step and after it.
type counts struct {
	legacy     filters.Ruleset // empty where iptables-legacy is not loaded
	rpFiltered uint64
}

func (r *run) count() counts {
	c := counts{rpFiltered: rpFiltered()}
	if loaded, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && len(loaded) > 0 {
		c.legacy = r.rules()
	}
	return c
}

// explainSilence follows the packets that nothing replied to.
func (r *run) explainSilence(ctx context.Context, f guest.Flow, before counts) string {
	t := r.trailOf(ctx, f)
	if s, ok := dropped(t.out, f); ok {
		return r.explainDrop(s, "")
	}
	if s, ok := dropped(t.back, f); ok {
		return r.explainDrop(s, "the answer: ")
	}
	after := r.count()
	if d, ok := r.counted(f, before, after); ok {
		return r.word(d, "")
	}
	if r.tracer == nil {
		return r.explainStatically(f)
	}
	return r.explainTrail(ctx, t, f, after.rpFiltered > before.rpFiltered)
}

// explainTrail is about packets that no rule drops. Where their trail ends they vanished.
// filtered is true if rp_filter has dropped packets meanwhile.
func (r *run) explainTrail(ctx context.Context, t trail, f guest.Flow, filtered bool) string {
	switch {
	case f.Protocol == guest.ARP || f.Dst == guest.LimitedBroadcast:
		return r.explainOnBridge(t)
	case r.uplink() != "":
		return r.explainLAN(ctx, f)
	case reached(t.back, toGuest):
		return "the answer was sent to the guest's tap and did not arrive: look for a tc filter or an XDP program on " + r.guest.Tap
	case len(t.back) > 0 && reached(t.back, through), len(t.back) > 0 && reached(t.back, sent):
		return "the answer vanishes between the host's IP and the tap: look for a filter of ebtables-legacy or tc on " + r.info.Bridge
	case len(t.back) > 0:
		return r.explainLostReply(t, f, filtered)
	case reached(t.out, leaving), reached(t.out, through):
		return r.explainNoReply(ctx, t, f, filtered)
	case reached(t.out, toHost):
		return r.explainDeaf(ctx, f)
	case reached(t.out, atHost):
		return r.explainRouting(f, filtered)
	}
	return r.explainOnBridge(t)
}

// explainOnBridge is about frames that reached no hook of IP.
func (r *run) explainOnBridge(t trail) string {
	tap, bridge := r.guest.Tap, r.info.Bridge
	if r.network.Macvtap {
		return r.silentLAN()
	}
	state, _ := os.ReadFile(filepath.Join("/sys/class/net", tap, "brport/state"))
	switch s := strings.TrimSpace(string(state)); {
	case s == "":
		return fmt.Sprintf("tap %s is no port of bridge %s any more: another program took it off: ip link set %s master %s", tap, bridge, tap, bridge)
	case s != "3": // BR_STATE_FORWARDING
		return fmt.Sprintf("bridge %s does not forward for the port yet (state %s): STP is on, its forward delay must be over", bridge, s)
	case len(t.out) == 0:
		return fmt.Sprintf("the frame vanishes between tap %s and bridge %s: look for a chain of nftables at hook ingress, tc or XDP on %s", tap, bridge, tap)
	case len(t.back) > 0:
		return fmt.Sprintf("an answer comes back to bridge %s and does not reach the tap", bridge)
	case r.uplink() != "":
		return r.silentLAN()
	}
	return fmt.Sprintf("the frame reaches bridge %s and nothing replies: the network's keeper (process %d) is silent; look with: qnet net", bridge, r.info.KeeperPID)
}

// explainLAN is about packets that no machine on the LAN replies to. A host that reaches
// the address by another link says nothing about the LAN.
func (r *run) explainLAN(ctx context.Context, f guest.Flow) string {
	if !r.hostReaches(ctx, f) {
		r.beyond = true
		return fmt.Sprintf("the host itself gets no answer from %s either: the fault is beyond this host", f.Dst)
	}
	if link := r.linkTo(f.Dst); link != r.uplink() && link != r.info.Bridge {
		r.beyond = true
		return fmt.Sprintf("nothing behind %s answers for %s, which the host itself reaches by %s: look at the router of that LAN", r.uplink(), f.Dst, link)
	}
	return fmt.Sprintf("%s answers the host itself: what is behind %s drops the guest's packets", f.Dst, r.uplink())
}

// silentLAN is about a LAN on which no such server replies.
func (r *run) silentLAN() string {
	link := r.uplink()
	if l, ok := r.facts.Link(link); ok && !l.Carrier {
		return fmt.Sprintf("%s has no link: look at its cable and the switch", link)
	}
	return fmt.Sprintf("nothing on the LAN behind %s answers: it has no such server, or its switch drops frames of a MAC that it does not know", link)
}

// uplink is the link of a bridge-mode network to the LAN, "" in the other modes.
func (r *run) uplink() string {
	info := r.info
	if info.Mode == "bridge" && len(info.Uplinks) > 0 {
		return info.Uplinks[0]
	}
	return ""
}

// explainDeaf is about packets that the host took in without a reply.
func (r *run) explainDeaf(ctx context.Context, f guest.Flow) string {
	if f.Port == 53 && r.passed("name host.qnet") {
		return r.explainResolvers(ctx)
	}
	if f.Protocol == guest.ICMP {
		if v, _ := os.ReadFile("/proc/sys/net/ipv4/icmp_echo_ignore_all"); strings.TrimSpace(string(v)) == "1" {
			return "the host answers no ping at all: sysctl -w net.ipv4.icmp_echo_ignore_all=0"
		}
	}
	return fmt.Sprintf("the host takes the packet in and nothing on it answers %s; look with: qnet net", f)
}

// passed reports whether an earlier step passed.
func (r *run) passed(name string) bool {
	return slices.ContainsFunc(r.steps, func(s Step) bool { return s.Name == name && s.Outcome == Pass })
}

// explainICMP is about an ICMP error in place of a reply.
func (r *run) explainICMP(ctx context.Context, e *guest.ICMPError, before counts) string {
	if e.From != r.info.Gateway && !r.hasAddress(e.From) {
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
	return "no route: the host has no route there, most often because it has no default route; look with: ip route"
}

// refused names the rule that sent the guest an ICMP error or a RST.
func (r *run) refused(ctx context.Context, f guest.Flow) string {
	t := r.trailOf(ctx, f)
	if s, ok := dropped(t.out, f); ok {
		return r.explainDrop(s, "")
	}
	return ""
}

// explainBlackHole is about large packets that vanish.
func (r *run) explainBlackHole(e *BlackHole) string {
	link, _ := r.facts.DefaultLink()
	text := fmt.Sprintf("MTU black hole behind %s: %s", link.Name, e)
	if e.Passes == 0 {
		return text
	}
	return text + fmt.Sprintf(": ip link set %s mtu %d, to which qnet clamps guests' TCP", link.Name, e.Passes)
}

// explainResolvers is about names that are not resolved. It asks the host's name servers as
// the network's server does.
func (r *run) explainResolvers(ctx context.Context) string {
	tried, err := dns.Try(ctx, r.resolvConf, r.outsideName())
	if err != nil {
		return err.Error()
	}
	var dead []string
	for _, t := range tried {
		if t.Answers() {
			return fmt.Sprintf("the host's resolver %s answers the host; the network's name server does not get its answer in time: look with: qnet net", t.Server)
		}
		dead = append(dead, t.Server.String())
	}
	if resolvconf.Nameservers(r.resolvConf) == nil {
		return "the host has no resolver: /etc/resolv.conf names none"
	}
	return fmt.Sprintf("DNS is dead on the host itself: none of its resolvers answers (%s): look at /etc/resolv.conf", strings.Join(dead, ", "))
}
