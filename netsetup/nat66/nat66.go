// Package nat66 decides how guests of a network in mode nat reach the outside by IPv6: which
// sysctls make the host forward for them, and which rules keep that from anything else.
//
// Forwarding is no matter of one link in IPv6. Where the kernel has force_forwarding (since 6.17),
// bridge and uplinks get that. Else all links forward, and rules drop what the host newly forwards
// for others. A host that forwards believes no router advertisements, unless accept_ra is 2, and
// drops its own default route as soon as it begins to (rt6_purge_dflt_routers in
// net/ipv6/route.c): so accept_ra comes first.
//
// The decisions are pure; the steps are those of package step.
package nat66

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Way is how the host forwards IPv6 for guests.
type Way string

// The ways.
const (
	ByLink  Way = "link"    // bridge and uplinks have force_forwarding
	ByAll   Way = "all"     // all links forward, because of the network
	Already Way = "already" // all links forward, because another program or the administrator wants it
	Not     Way = "not"     // Alone are in the way
)

// WayOf is the way on that host, of which host.ObserveIPv6 has told.
func WayOf(f host.Facts) Way {
	_, byLink := f.Sysctls[host.IPv6Key("all", host.ForceForwarding)]
	switch {
	case byLink:
		return ByLink
	case f.Sysctls[host.IPv6Key("all", host.Forwarding)] == "1":
		return Already
	case len(f.Routers6) > 0:
		return Not // the end of ByAll would turn their forwarding off
	}
	return ByAll
}

// Network is what the decisions need of a network.
type Network struct {
	Bridge  string
	Prefix  netip.Prefix
	Uplinks []string
	Way     Way
}

// Steps make the host forward between bridge and uplinks. Their undo leaves the host its default
// route, too.
func (n Network) Steps(f host.Facts) step.List {
	var steps step.List
	hosts := hostsOf(f)
	switch n.Way {
	case ByLink:
		steps = append(steps, step.SetSysctl{Key: host.IPv6Key(n.Bridge, host.ForceForwarding), Value: "1"})
	case ByAll:
		for _, l := range hosts {
			steps = append(steps, step.SetSysctl{Key: host.IPv6Key(l, host.AcceptRA), Value: "2", Old: "1"})
		}
		// A program that makes all links forward makes that the default of new links, too.
		defaults := host.IPv6Key("default", host.Forwarding)
		steps = append(steps, step.SetSysctl{Key: host.IPv6Key("all", host.Forwarding), Value: "1", Old: "0", Wider: defaults},
			KeepDefault{Key: defaults, Value: f.Sysctls[defaults]})
		hosts = nil // they have 2 for as long
	case Not:
		return nil
	}
	steps = append(steps, BeRouter{Bridge: n.Bridge, Hosts: hosts})
	for _, l := range n.Uplinks {
		steps = append(steps, n.UplinkSteps(f, l)...)
	}
	return steps
}

// UplinkSteps make the host forward what comes in by an uplink.
func (n Network) UplinkSteps(f host.Facts, link string) step.List {
	if key := host.IPv6Key(link, host.ForceForwarding); n.Way == ByLink && f.Sysctls[key] == "0" {
		return step.List{step.SetSysctl{Key: key, Value: "1", Old: "0"}}
	}
	return nil
}

// hostsOf are the links of the host's own by which it believes router advertisements as long as
// it does not forward.
func hostsOf(f host.Facts) []string {
	var list []string
	for _, l := range f.Links {
		if f.Sysctls[host.IPv6Key(l.Name, host.AcceptRA)] == "1" {
			list = append(list, l.Name)
		}
	}
	return list
}

// The sets of a network's table.
const (
	// ForwardedSet has the uplinks whose forwarding of IPv6 the network turned on.
	ForwardedSet = "newly_forwarded6"
	// LiftedSet is empty, or, once another program wants all links to forward, has all links.
	LiftedSet = "lifted6"
)

// Sets are those that Rules name.
func (n Network) Sets(forwarded []string) []nft.Set {
	switch n.Way {
	case ByLink:
		return []nft.Set{{Name: ForwardedSet, Links: forwarded}}
	case ByAll:
		return []nft.Set{{Name: ForwardedSet, Links: forwarded}, {Name: LiftedSet}}
	}
	return nil
}

// Forwarded are those of the uplinks whose forwarding the network's steps turn on.
func (n Network) Forwarded(f host.Facts) []string {
	switch n.Way {
	case ByAll:
		// What another program made a port of a network's bridge makes that no uplink.
		return slices.DeleteFunc(slices.Clone(n.Uplinks), func(l string) bool {
			return f.Sysctls[host.IPv6Key(l, host.Solicitations)] == "0"
		})
	case ByLink:
		if f.Sysctls[host.IPv6Key("all", host.Forwarding)] == "1" {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(n.Uplinks), func(l string) bool { return len(n.UplinkSteps(f, l)) == 0 })
	}
	return nil
}

// Bridges are those of other programs, between whose ports the kernel forwards nothing that the
// rules should drop, though br_netfilter shows them the frames.
func (n Network) Bridges(f host.Facts) []string {
	var list []string
	for _, l := range f.Links {
		if n.Way == ByAll && l.Kind == "bridge" && !l.Ours() && (f.Filters.BridgeIPv4 || f.Filters.BridgeIPv6) {
			list = append(list, l.Name)
		}
	}
	return list
}

// Rules drop, at the end of the network's chain, what the host forwards because of it between
// links that are no guests'. Guests of other networks get answers; their own tables say what they
// may send.
func (n Network) Rules() []nft.Rule {
	guests := nft.Link("qn*")
	own := []nft.Rule{
		{NFProto: nft.IP6, InLink: nft.Link("@" + ForwardedSet), OutLink: guests, Established: true, Do: nft.Accept},
		{NFProto: nft.IP6, InLink: nft.Link("@" + ForwardedSet), Do: nft.Drop},
	}
	switch n.Way {
	case ByLink:
		return own
	case ByAll:
		return append(own,
			nft.Rule{NFProto: nft.IP6, InLink: guests, Do: nft.Accept},
			nft.Rule{NFProto: nft.IP6, OutLink: guests, Established: true, Do: nft.Accept},
			nft.Rule{NFProto: nft.IP6, InLink: nft.NotLink("@" + LiftedSet), Do: nft.Drop})
	}
	return nil
}

// Masquerade gives guests' packets the host's address of the link by which they leave: the uplink
// has a prefix for the host alone.
func (n Network) Masquerade() []nft.Rule {
	out := nft.NotLink(n.Bridge)
	return []nft.Rule{
		{OutLink: out, Source: n.Prefix, TCPUDP: true, Do: nft.MasqueradePorts},
		{OutLink: out, Source: n.Prefix, Do: nft.Masquerade},
	}
}

// Metadata are the addresses by which clouds tell a machine its credentials over IPv6: those of
// AWS, Google Cloud and Oracle Cloud. They are unique local ones, so no guest's.
var Metadata = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fd20:ce::254/128"), netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"),
}

// IsOutward reports whether guests leave by the link by which the host's own packets of IPv6 to
// the Internet leave: then the host is their router. only are the links that they may leave by,
// nil for all.
func IsOutward(f host.Facts, way Way, only []string) bool {
	l, ok := f.DefaultLink6()
	return ok && way != Not && (only == nil || slices.Contains(only, l.Name))
}
