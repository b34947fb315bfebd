package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadFIB reads the policy rules and the IPv4 routes of all tables. It needs no rights. A
// route by a dead link, or for one type of service alone, is left out.
//
//	ip -4 rule; ip -4 route show table all
func ReadFIB() (FIB, error) {
	rules, err := ReadRules()
	if err != nil {
		return FIB{}, err
	}
	routes, err := listRoutes()
	if err != nil {
		return FIB{}, err
	}
	fib := FIB{Rules: rules}
	for _, r := range routes {
		if usable(r) {
			fib.Routes = append(fib.Routes, fibRoute(r))
		}
	}
	return fib, nil
}

// usable reports whether a lookup without a type of service may find the route.
func usable(r netlink.Route) bool { return r.Flags&unix.RTNH_F_DEAD == 0 && r.Tos == 0 }

// fibRoute converts a route. Of several nexthops it takes the first that works.
func fibRoute(r netlink.Route) FIBRoute {
	link := r.LinkIndex
	works := func(hop *netlink.NexthopInfo) bool { return hop.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 }
	if i := slices.IndexFunc(r.MultiPath, works); i >= 0 {
		link = r.MultiPath[i].LinkIndex
	} else if len(r.MultiPath) > 0 {
		link = r.MultiPath[0].LinkIndex
	}
	if leadsNowhere(r) {
		link = 0
	}
	return FIBRoute{
		Dst: destination(r), Table: r.Table, Metric: r.Priority, Link: link, Throw: r.Type == unix.RTN_THROW, Protocol: int(r.Protocol),
	}
}

// leadsNowhere reports whether packets that the route matches leave by no link of it.
func leadsNowhere(r netlink.Route) bool {
	return r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT || r.Type == unix.RTN_THROW
}

// listRoutes lists the IPv4 routes of all tables.
func listRoutes() ([]netlink.Route, error) {
	every := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, every, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nameNexthops(routes)
}

// nameNexthops gives the links of their nexthop objects to routes that show none, because
// net.ipv4.nexthop_compat_mode is 0.
func nameNexthops(routes []netlink.Route) error {
	hidden := func(r netlink.Route) bool {
		return r.Type == unix.RTN_UNICAST && r.LinkIndex == 0 && len(r.MultiPath) == 0
	}
	if !slices.ContainsFunc(routes, hidden) {
		return nil
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	links, err := c.Nexthops()
	if err != nil {
		return err
	}
	list, err := c.Routes(unix.AF_INET)
	byRoute := map[nexthopKey]int{}
	for _, r := range list {
		byRoute[nexthopKey{r.Dst(), r.Table(), int(r.Metric())}] = links[r.Nexthop()]
	}
	for i, r := range routes {
		if hidden(r) {
			routes[i].LinkIndex = byRoute[nexthopKey{destination(r), r.Table, r.Priority}]
		}
	}
	return err
}

// nexthopKey tells routes apart.
type nexthopKey struct {
	dst           netip.Prefix
	table, metric int
}

// destination returns an IPv4 route's destination; package netlink has none for a default
// route.
func destination(r netlink.Route) netip.Prefix {
	if dst, ok := prefixOf(r.Dst); ok {
		return dst
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
