package fib

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Read reads the policy rules, and the IPv4 routes of all tables that decide on the
// addresses of a prefix: the host may have very many others. An invalid prefix is for the rules
// alone. A route by a dead link, or for one type of service alone, is left out. It needs no
// rights.
//
//	ip -4 rule; ip -4 route show table all
func Read(about netip.Prefix) (FIB, error) {
	rules, err := ReadRules()
	if err != nil || !about.IsValid() {
		return FIB{Rules: rules}, err
	}
	routes, err := dump.Whole(func() ([]Route, error) {
		var list []Route
		objects := Nexthops{}
		err := rtnl.WalkRoutes(unix.AF_INET, func(r rtnl.Route) {
			if Usable(r) && r.Dst().Overlaps(about) {
				list = append(list, objects.Route(r))
			}
		})
		return list, errors.Join(err, objects.Err())
	})
	return FIB{Rules: rules, Routes: routes}, err
}

// Usable reports whether a lookup without a type of service may find the route.
func Usable(r rtnl.Route) bool { return !r.Dead() && r.TOS() == 0 }

// LeadsNowhere reports whether packets that the route matches leave by no link of it.
func LeadsNowhere(r rtnl.Route) bool {
	return r.Type() == unix.RTN_BLACKHOLE || r.Type() == unix.RTN_UNREACHABLE || r.Type() == unix.RTN_PROHIBIT || r.Type() == unix.RTN_THROW
}

// Nexthops are the links, by index, of nexthop objects (ip-nexthop(8)) by their ids. Routes
// that have one show no link where net.ipv4.nexthop_compat_mode is 0. The objects are read for
// the first such route. The zero value is ready; one goroutine at a time may use it.
type Nexthops struct {
	links map[uint32]int
	err   error
}

// Route converts a route. Of several nexthops it takes the first that works.
func (n *Nexthops) Route(r rtnl.Route) Route {
	link, _ := r.Out()
	switch {
	case LeadsNowhere(r):
		link = 0
	case link == 0:
		link = n.Of(r)[0].Link
	}
	return Route{
		Dst: r.Dst(), Table: r.Table(), Metric: int(r.Metric()), Link: link, Throw: r.Type() == unix.RTN_THROW, Protocol: r.Protocol(),
	}
}

// Of returns the nexthops of a route, of which there is one where it is no multipath route.
func (n *Nexthops) Of(r rtnl.Route) []rtnl.Hop {
	if hops := r.Hops(); len(hops) > 0 {
		return hops
	}
	hop := rtnl.Hop{Link: r.Link(), Gateway: r.Gateway()}
	if hop.Link == 0 && r.Nexthop() != 0 {
		hop.Link = n.link(r.Nexthop())
	}
	return []rtnl.Hop{hop}
}

// Err returns why the nexthop objects could not be read, nil if no route needed them: their
// routes have the link 0 then.
func (n *Nexthops) Err() error { return n.err }

func (n *Nexthops) link(id uint32) int {
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
