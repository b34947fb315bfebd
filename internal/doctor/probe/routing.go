package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft/trace"
)

// explainRouting is about packets that reached the IP of the host and got no route.
func (r *run) explainRouting(f guest.Flow, filtered bool) string {
	bridge := r.info.Bridge
	if filtered {
		return fmt.Sprintf("dropped by rp_filter on %s: the route back to %s is by another link (IPReversePathFilter rises): sysctl -w net.ipv4.conf.all.rp_filter=2", bridge, f.Src)
	}
	if err := host.CheckRoute(f.Dst, f.Src, bridge); err != nil {
		return fmt.Sprintf("no route: the host has none to %s for what comes from %s (%s): look with: ip route get %s from %s iif %s",
			f.Dst, bridge, routeError(err), f.Dst, f.Src, bridge)
	}
	if !forwards(bridge) {
		return fmt.Sprintf("the host does not forward: sysctl -w net.ipv4.conf.%s.forwarding=1", bridge)
	}
	return r.explainStatically(f)
}

// forwards reports whether the host forwards packets that come in by a link.
func forwards(link string) bool {
	v, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/forwarding")
	return err != nil || strings.TrimSpace(string(v)) != "0"
}

// routeError is the error of a route request in words.
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

// explainLostReply is about a reply that came to the host and not to the guest.
func (r *run) explainLostReply(t trail, f guest.Flow, filtered bool) string {
	link := r.linkName(t.back[0].In)
	if filtered {
		return fmt.Sprintf("the answer is dropped by rp_filter on %s: the host's route to %s leaves by another link (IPReversePathFilter rises): "+
			"sysctl -w net.ipv4.conf.%s.rp_filter=2", link, f.Dst, link)
	}
	if !forwards(link) {
		return fmt.Sprintf("the answer comes in by %s, which does not forward: sysctl -w net.ipv4.conf.%s.forwarding=1", link, link)
	}
	return fmt.Sprintf("the answer comes back by %s and is not translated back to the guest: look with: conntrack -L -s %s", link, f.Src)
}

// explainNoReply is about what left the host and was not answered.
func (r *run) explainNoReply(ctx context.Context, t trail, f guest.Flow, filtered bool) string {
	out := r.linkName(t.out[len(t.out)-1].Out)
	if text := r.explainTranslation(t, f, out); text != "" {
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

// explainTranslation is about a packet that left with an address to which no reply comes.
func (r *run) explainTranslation(t trail, f guest.Flow, out string) string {
	if r.network.Mode != "nat" {
		return ""
	}
	entry, found := host.Tracked(f.Src, f.Dst, f.Protocol)
	switch {
	case !found:
		return fmt.Sprintf("not masqueraded: the connection is not tracked, so the packet leaves by %s with the guest's own address %s%s", out, f.Src, r.notrack())
	case entry == f.Src:
		return fmt.Sprintf("not masqueraded: the packet leaves by %s with the guest's own address %s%s", out, f.Src, r.translator(t))
	case !r.hasAddress(entry):
		return fmt.Sprintf("masqueraded wrongly: the packet leaves by %s as %s, which is no address of this host%s", out, entry, r.translator(t))
	}
	return ""
}

// notrack names a rule that keeps packets from connection tracking.
func (r *run) notrack() string {
	for _, t := range r.rules().Tables {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				if rule.Untracks {
					return fmt.Sprintf(": table %s %s chain %s has the rule %q", t.Family, t.Name, c.Name, rule.Text)
				}
			}
		}
	}
	return ""
}

// translator names the rule in a nat chain of another program that took the packet first.
func (r *run) translator(t trail) string {
	for _, s := range t.out {
		if s.at != leaving || s.Verdict != trace.Accepted || s.Policy || strings.HasPrefix(s.Table, "qnet_") {
			continue
		}
		if d, ok := r.rules().DropAt(s.Family, s.Table, s.Chain, s.Handle); ok {
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

// linkTo is the link by which the host reaches an address: the one that has the address
// in its prefix, or that of the default route.
func (r *run) linkTo(a netip.Addr) string {
	for _, l := range r.facts.Links {
		for _, p := range l.Addresses {
			if p.Contains(a) {
				return l.Name
			}
		}
	}
	l, _ := r.facts.DefaultLink()
	return l.Name
}

// nextHopOf is the gateway of the default route, or the address itself if it is in the
// prefix of a link.
func (r *run) nextHopOf(a netip.Addr) netip.Addr {
	for _, l := range r.facts.Links {
		for _, p := range l.Addresses {
			if p.Contains(a) {
				return a
			}
		}
	}
	if len(r.facts.Ways) > 0 {
		return r.facts.Ways[0].Via
	}
	return netip.Addr{}
}
