package host

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadFIB reads the policy rules, and the IPv4 routes of all tables that decide on the
// addresses of a prefix: the host may have very many others. An invalid prefix is for the rules
// alone. A route by a dead link, or for one type of service alone, is left out. It needs no
// rights.
//
//	ip -4 rule; ip -4 route show table all
func ReadFIB(about netip.Prefix) (FIB, error) {
	rules, err := ReadRules()
	if err != nil || !about.IsValid() {
		return FIB{Rules: rules}, err
	}
	routes, err := dump.Whole(func() ([]FIBRoute, error) {
		var list []FIBRoute
		objects := nexthops{}
		err := rtnl.WalkRoutes(unix.AF_INET, func(r rtnl.Route) {
			if usable(r) && r.Dst().Overlaps(about) {
				list = append(list, fibRoute(r, &objects))
			}
		})
		return list, errors.Join(err, objects.err)
	})
	return FIB{Rules: rules, Routes: routes}, err
}

// usable reports whether a lookup without a type of service may find the route.
func usable(r rtnl.Route) bool { return !r.Dead() && r.TOS() == 0 }

// fibRoute converts a route. Of several nexthops it takes the first that works.
func fibRoute(r rtnl.Route, objects *nexthops) FIBRoute {
	link, _ := r.Out()
	switch {
	case leadsNowhere(r):
		link = 0
	case link == 0:
		link = objects.of(r)[0].Link
	}
	return FIBRoute{
		Dst: r.Dst(), Table: r.Table(), Metric: int(r.Metric()), Link: link, Throw: r.Type() == unix.RTN_THROW, Protocol: r.Protocol(),
	}
}

// leadsNowhere reports whether packets that the route matches leave by no link of it.
func leadsNowhere(r rtnl.Route) bool {
	return r.Type() == unix.RTN_BLACKHOLE || r.Type() == unix.RTN_UNREACHABLE || r.Type() == unix.RTN_PROHIBIT || r.Type() == unix.RTN_THROW
}

// nexthops are the links, by index, of nexthop objects (ip-nexthop(8)) by their ids. Routes
// that have one show no link where net.ipv4.nexthop_compat_mode is 0. The objects are read for
// the first such route.
type nexthops struct {
	links map[uint32]int
	err   error
}

// of returns the nexthops of a route, of which there is one where it is no multipath route.
func (n *nexthops) of(r rtnl.Route) []rtnl.Hop {
	if hops := r.Hops(); len(hops) > 0 {
		return hops
	}
	hop := rtnl.Hop{Link: r.Link(), Gateway: r.Gateway()}
	if hop.Link == 0 && r.Nexthop() != 0 {
		hop.Link = n.link(r.Nexthop())
	}
	return []rtnl.Hop{hop}
}

func (n *nexthops) link(id uint32) int {
	if n.links == nil && n.err == nil {
		n.links, n.err = readNexthops()
	}
	return n.links[id]
}

func readNexthops() (map[uint32]int, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return c.Nexthops()
}
