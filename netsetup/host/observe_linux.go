package host

import (
	"context"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// Query says what Observe reads for one network.
type Query struct {
	// LAN adds what the host has by the link that a bridge would join: the link of the name
	// Uplink, or for "" the link of the default route.
	LAN    bool
	Uplink string
	// Original puts into the sysctls the values from before running networks changed them
	// (journal.OriginalSysctls). Nil leaves them as they are.
	Original func(sysctls map[string]string)
	// Ask, with LAN, adds which gateways answer on that link, and whether Peer does if it is
	// a neighbor there. It needs CAP_NET_RAW, and takes 1 s where a gateway does not answer.
	Ask  bool
	Peer netip.Addr // the other end of the session that qnet runs in; not valid if there is none
}

// Observe reads all that a plan depends on. It changes nothing, and needs no rights but for
// Query.Ask. Facts.Unknown names what cannot be read, if a plan can do without.
func Observe(ctx context.Context, q Query) (Facts, error) {
	f, err := ObserveNetwork()
	if err != nil {
		return f, err
	}
	if v, err := ReadSysctl(RPFilterKey(q.Uplink)); err == nil && q.Uplink != "" {
		f.Sysctls[RPFilterKey(q.Uplink)] = v
	}
	if q.Original != nil {
		q.Original(f.Sysctls)
	}
	f.Managers = managers.Running(ctx)
	if f.Firewalld, err = firewalld.Observe(ctx); err != nil {
		f.Unknown = append(f.Unknown, err.Error())
	}
	up, ok := f.LANLink(q.Uplink)
	if !q.LAN || !ok || up.Kind == "bridge" {
		return f, nil // a plan refuses a link that does not exist
	}
	if f.NIC, err = observeNIC(ctx, up); err != nil || !q.Ask {
		return f, err
	}
	return f, f.askNeighbors(ctx, up, q.Peer)
}

// ObserveNetwork reads the network alone: links, addresses, routes, policy rules,
// resolvers, forwarding and packet filters. It needs no rights.
func ObserveNetwork() (Facts, error) {
	f := Facts{Sysctls: map[string]string{}}
	var err error
	if f.Links, err = ReadLinks(); err != nil {
		return f, err
	}
	for _, add := range []func(*Facts) error{addAddresses, addRoutes, addWays, addForwarding} {
		if err := add(&f); err != nil {
			return f, err
		}
	}
	_, statErr := os.Stat("/proc/sys/net/ipv6")
	f.HasIPv6 = statErr == nil
	f.NoSysctls = noSysctls()
	f.Resolvers = append(resolvers("/etc/resolv.conf"), resolvers("/run/systemd/resolve/resolv.conf")...)
	f.Defined = definedNetworks("/")
	if f.Rules, err = ReadRules(); err != nil {
		return f, err
	}
	f.Filters = read.Ruleset()
	return f, nil
}

// addForwarding adds the sysctls of IPv4 forwarding.
func addForwarding(f *Facts) error {
	if v, err := ReadSysctl(IPForward); err == nil {
		f.Sysctls[IPForward] = v
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	forwarding, err := c.Forwarding()
	if err != nil {
		return err
	}
	if v, err := ReadSysctl(RPFilterKey("all")); err == nil {
		f.Sysctls[RPFilterKey("all")] = v
	}
	for _, l := range f.Links {
		if v, ok := forwarding[l.Index]; ok {
			f.Sysctls[ForwardingKey(l.Name)] = v
		}
	}
	return nil
}

// places returns each link's place in f.Links by the link's index: a host may have thousands
// of routes by thousands of links.
func (f Facts) places() map[int]int {
	places := make(map[int]int, len(f.Links))
	for i, l := range f.Links {
		places[l.Index] = i
	}
	return places
}

// addAddresses adds the addresses of all links.
func addAddresses(f *Facts) error {
	addrs, err := listAddrs()
	if err != nil {
		return err
	}
	places := f.places()
	for _, a := range addrs {
		i, known := places[a.LinkIndex]
		if p, ok := prefixOf(a.IPNet); ok && known {
			f.Links[i].Addresses = append(f.Links[i].Addresses, p)
		}
	}
	return nil
}

// addRoutes adds the IPv4 routes of all tables, one for each nexthop by a known link.
func addRoutes(f *Facts) error {
	routes, err := listRoutes()
	if err != nil {
		return err
	}
	places := f.places()
	f.Routes = slices.Grow(f.Routes, len(routes))
	for _, r := range routes {
		if usable(r) && ways.Decides(destination(r)) {
			f.Outward = append(f.Outward, fibRoute(r))
		}
		hops := append([]*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}, r.MultiPath...)
		for _, hop := range hops {
			name := ""
			i, known := places[hop.LinkIndex]
			if known {
				name = f.Links[i].Name
			}
			if known || len(r.MultiPath) == 0 {
				via, _ := netip.AddrFromSlice(hop.Gw)
				if v, ok := hop.Via.(*netlink.Via); ok { // of the other family
					via, _ = netip.AddrFromSlice(v.Addr)
				}
				f.Routes = append(f.Routes, Route{Dst: destination(r), Link: name, Via: via.Unmap(), Table: r.Table, Nowhere: leadsNowhere(r)})
			}
		}
	}
	return nil
}

// resolvers reads the name servers of a resolv.conf(5), without zones.
func resolvers(path string) []netip.Addr {
	servers := resolvconf.Nameservers(path)
	for i, a := range servers {
		servers[i] = a.WithZone("")
	}
	return servers
}
