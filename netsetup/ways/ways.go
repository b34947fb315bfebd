// Package ways asks the kernel where the host's packets to the Internet go. It only reads, needs
// no rights, and may be used concurrently.
//
// No default route needs to be found for that: VPNs and BGP have many routes in its place, and
// policy rules choose between tables. So the package asks for the routes of sample addresses,
// which lie all over the Internet. A route to a few networks alone decides about few of them.
package ways

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

// Samples4 and Samples6 are the addresses that are asked for.
var (
	Samples4 = addrs("2.16.0.1", "23.0.0.1", "45.0.0.1", "66.0.0.1", "93.0.0.1", "130.0.0.1", "158.0.0.1", "185.0.0.1", "217.0.0.1")
	Samples6 = addrs("2001:200::1", "2400::1", "2600::1", "2800::1", "2a00::1", "2c00::1", "3000::1")
)

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// Most returns the way that most samples have; ok is false unless more than half of them have
// one.
func Most(ways []Way, samples int) (best Way, ok bool) {
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

// Decides reports whether a route to an IPv4 prefix decides about a sample.
func Decides(dst netip.Prefix) bool { return slices.ContainsFunc(Samples4, dst.Contains) }
