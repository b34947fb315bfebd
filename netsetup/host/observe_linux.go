package host

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/defined"
	"github.com/qnet-vm/qnet/netsetup/fib"
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
	IPv6   bool // adds what ObserveIPv6 reads
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
	if q.IPv6 {
		if err := f.ObserveIPv6(); err != nil {
			return f, err
		}
		if failpoint.Hit("the kernel forwards IPv6 by link") != nil { // as one before 6.17
			delete(f.Sysctls, IPv6Key("all", ForceForwarding))
		}
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
	f.Defined = defined.Read("/")
	if f.Rules, err = fib.ReadRules(); err != nil {
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

// addRoutes adds the IPv4 routes of all tables that a plan depends on, one for each nexthop by
// a known link.
//
//	ip -4 route show table all
func addRoutes(f *Facts) error {
	places := f.places()
	type found struct {
		routes  []Route
		outward []fib.Route
	}
	all, err := dump.Whole(func() (found, error) {
		var list found
		seen, objects := outlets{}, fib.Nexthops{}
		err := rtnl.WalkRoutes(unix.AF_INET, func(r rtnl.Route) {
			dst := r.Dst()
			if fib.Usable(r) && ways.Decides(dst) {
				list.outward = append(list.outward, objects.Route(r))
			}
			if !seen.add(r) && !telling(dst) {
				return // nearly all of a million routes
			}
			for _, hop := range objects.Of(r) {
				i, known := places[hop.Link]
				route := Route{Dst: dst, Via: hop.Gateway, Table: r.Table(), Nowhere: fib.LeadsNowhere(r)}
				if known {
					route.Link = f.Links[i].Name
				}
				if known || len(r.Hops()) == 0 {
					list.routes = append(list.routes, route)
				}
			}
		})
		return list, errors.Join(err, objects.Err())
	})
	f.Routes, f.Outward = all.routes, all.outward
	return err
}

// outlets are the links, by index, by which each table leads somewhere; 0 stands for nowhere,
// a negative number for a nexthop object.
type outlets map[struct{ table, link int }]bool

// add adds those of the route, and reports whether one of them is new.
func (o outlets) add(r rtnl.Route) (added bool) {
	way := struct{ table, link int }{r.Table(), r.Link()}
	if way.link == 0 {
		way.link = -int(r.Nexthop())
	}
	hops := r.Hops()
	if len(hops) == 0 {
		added = !o[way]
		o[way] = true
		return added
	}
	for _, hop := range hops {
		way.link = hop.Link
		added = added || !o[way]
		o[way] = true
	}
	return added
}

// telling reports whether a plan depends on a route to the prefix even where its table has
// another by the same link: it is wide, such as a default route, or it uses addresses that a
// subnet could be chosen from.
func telling(dst netip.Prefix) bool {
	return dst.Bits() <= wideBits || slices.ContainsFunc(Private[:], dst.Overlaps)
}

// wideBits is the longest prefix, in bits, that counts as a summary of the Internet.
const wideBits = 8

// resolvers reads the name servers of a resolv.conf(5), without zones.
func resolvers(path string) []netip.Addr {
	servers := resolvconf.Nameservers(path)
	for i, a := range servers {
		servers[i] = a.WithZone("")
	}
	return servers
}
