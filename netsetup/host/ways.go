package host

import (
	"net/netip"
	"slices"
)

// Way is how packets to the Internet leave the host.
type Way struct {
	Link int        `json:"link"`         // index
	Via  netip.Addr `json:"via,omitzero"` // the gateway, of either family; not valid on a link
	IPv6 bool       `json:"ipv6,omitempty"`
}

// samples are addresses all over the IPv4 and IPv6 Internet. No default route needs to be
// found to tell where packets to the Internet go: VPNs and BGP have many routes in its place.
// A route to a few networks alone decides about few samples.
var (
	samples4 = addrs("2.16.0.1", "23.0.0.1", "45.0.0.1", "66.0.0.1", "93.0.0.1", "130.0.0.1", "158.0.0.1", "185.0.0.1", "217.0.0.1")
	samples6 = addrs("2001:200::1", "2400::1", "2600::1", "2800::1", "2a00::1", "2c00::1", "3000::1")
)

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// most returns the way that most samples have; ok is false unless more than half have one.
func most(ways []Way, samples int) (best Way, ok bool) {
	counts := map[int]int{}
	for _, w := range ways {
		counts[w.Link]++
	}
	for _, w := range ways {
		if counts[w.Link] > counts[best.Link] {
			best = w
		}
	}
	return best, 2*len(ways) > samples
}

// GuestLink returns the link by which packets of a guest with that IPv4 address, behind a
// bridge of that name, leave to the Internet; ok is false if they do not. The bridge need not
// be there.
func (f Facts) GuestLink(bridge string, guest netip.Addr) (Link, bool) {
	fib := FIB{Rules: f.Rules, Routes: f.Outward}
	var ways []Way
	for _, to := range samples4 {
		if _, r, ok := fib.RouteOf(Packet{guest, to, bridge}); ok && r.Link != 0 {
			ways = append(ways, Way{Link: r.Link})
		}
	}
	w, ok := most(ways, len(samples4))
	if !ok {
		return Link{}, false
	}
	return f.LinkByIndex(w.Link)
}

// exit returns the link of a way, false where it is one of qnet's own that leads to guests.
func (f Facts) exit(w Way) (Link, bool) {
	l, ok := f.LinkByIndex(w.Link)
	return l, ok && !l.Loopback && (!l.Ours() || f.onLAN(l))
}

// tunnel reports whether the link carries packets within packets of another link, as VPNs'
// links do.
func (l Link) tunnel() bool {
	return !l.Ethernet || slices.Contains([]string{"tun", "tuntap", "wireguard"}, l.Kind)
}

// isPort reports whether another link takes what comes in by the link, so that the host's IP
// does not see it. A VRF does not.
func (f Facts) isPort(l Link) bool {
	m, ok := f.LinkByIndex(l.Master)
	return ok && l.Master != 0 && m.Kind != "vrf"
}

// decides reports whether a route's destination holds a sample.
func decides(dst netip.Prefix) bool { return slices.ContainsFunc(samples4, dst.Contains) }
