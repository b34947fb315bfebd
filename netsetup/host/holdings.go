package host

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Holdings are what the host has by a link, and what moves along when the link becomes a
// port: addresses, routes of all tables, static and known neighbors, and policy rules that
// name the link. Each list is in the kernel's order. A journal holds them as JSON.
type Holdings struct {
	Index  int             `json:"index"` // of the link; 0: there is none
	Since  int64           `json:"since"` // when they were read, in seconds of CLOCK_BOOTTIME
	Addrs  []rtnl.Address  `json:"addrs,omitempty"`
	Routes []rtnl.Route    `json:"routes,omitempty"` // but those that the kernel keeps in the table "local"
	First  []bool          `json:"first,omitempty"`  // of each route: it goes before a like one by another link
	Neighs []rtnl.Neighbor `json:"neighs,omitempty"`
	Rules  []rtnl.Rule     `json:"rules,omitempty"`

	Names map[int]string `json:"names,omitempty"` // of the other links, by index, that multipath routes lead to
}

// HeldRoute is a route of holdings.
type HeldRoute struct {
	rtnl.Route
	First bool // it goes before a like one by another link
	Again bool // it is in the list before, and is placed once more: see RoutesInOrder

	place int // in the kernel's order
}

// depth orders routes so that each gateway is reached by a route before its own.
func (r HeldRoute) depth() int {
	if r.Family() == unix.AF_INET6 && r.NeedsReplace() {
		return 1
	}
	return -int(r.Scope()) // a gateway's scope is narrower than the scope behind it
}

// RoutesInOrder returns the routes so that each gateway is reached by a route before its
// own: the kernel refuses a route by a gateway that it has no route to. Of IPv4 routes that
// tie, those that go first come last one first, because each is added before all others.
// Where the order among those that tie and that of the gateways contradict each other, they
// come in the order of the gateways, and at the end of the list once more in their own.
func (h Holdings) RoutesInOrder() []HeldRoute {
	list := make([]HeldRoute, len(h.Routes))
	tied := map[rtnl.Tie][]HeldRoute{}
	var ties []rtnl.Tie
	for i, r := range h.Routes {
		list[i] = HeldRoute{Route: r, First: h.First[i], place: i}
		if r.Family() == unix.AF_INET {
			if tied[r.Tie()] == nil {
				ties = append(ties, r.Tie())
			}
			tied[r.Tie()] = append(tied[r.Tie()], list[i])
		}
	}
	order.By(list, func(a, b HeldRoute) int { return cmp.Or(a.depth()-b.depth(), lastFirst(a, b)) })
	for _, tie := range ties {
		if len(tied[tie]) > 1 {
			list = append(list, placedAgain(tied[tie])...)
		}
	}
	return list
}

// lastFirst orders routes that go first: the last one of the kernel's order before the
// others. Routes that do not tie do not mind.
func lastFirst(a, b HeldRoute) int {
	switch {
	case a.First && b.First:
		return b.place - a.place
	case a.First:
		return -1
	case b.First:
		return 1
	}
	return 0
}

// placedAgain returns the routes, which tie, in the order in which to place them once more;
// none where they are in their places as added before.
func placedAgain(routes []HeldRoute) []HeldRoute {
	inOrder := func(a, b HeldRoute) int { return cmp.Or(lastFirst(a, b), a.place-b.place) }
	added := func(a, b HeldRoute) int {
		if a.First { // of two that go first
			return cmp.Or(a.depth()-b.depth(), b.place-a.place)
		}
		return cmp.Or(b.withAddress()-a.withAddress(), a.depth()-b.depth(), a.place-b.place)
	}
	wanted := slices.Clone(routes)
	order.By(wanted, inOrder)
	n := len(slices.DeleteFunc(slices.Clone(routes), func(r HeldRoute) bool { return !r.First }))
	// Those that go first, the first n, and the others do not mind each other.
	if slices.IsSortedFunc(wanted[:n], added) && slices.IsSortedFunc(wanted[n:], added) {
		return nil
	}
	for i := range wanted {
		wanted[i].Again = true
	}
	return wanted
}

// withAddress is 1 for a route that the kernel adds with an address, and so before all others
// by the link, else 0.
func (r HeldRoute) withAddress() int {
	if r.Protocol() == unix.RTPROT_KERNEL && !r.Gateway().IsValid() {
		return 1
	}
	return 0
}

// ToPlaceAgain returns the routes of the list that are to be deleted, in that order, before
// those with Again in the list are added once more.
func ToPlaceAgain(list []HeldRoute) []HeldRoute {
	again := slices.DeleteFunc(slices.Clone(list), func(r HeldRoute) bool { return !r.Again })
	order.By(again, func(a, b HeldRoute) int { return rtnl.BySpecificity(a.Route, b.Route) })
	return again
}

// Empty reports whether there is no address but link-local ones, which every link has.
func (h Holdings) Empty() bool { return !slices.ContainsFunc(h.Addrs, isRoutable) }

// Lasts reports whether an address that is not link-local has no end.
func (h Holdings) Lasts() bool {
	return slices.ContainsFunc(h.Addrs, func(a rtnl.Address) bool { return !a.Dynamic() && isRoutable(a) })
}

func isRoutable(a rtnl.Address) bool { return !a.Local().IsLinkLocalUnicast() }

// Carries reports whether the host has something by the link that a port cannot carry: an
// address or a route that not every link has.
func (h Holdings) Carries() bool {
	return !h.Empty() || slices.ContainsFunc(h.Routes, func(r rtnl.Route) bool { return !r.Dst().Addr().IsLinkLocalUnicast() })
}

// Gateways returns the gateways of the default routes by the link, each once. The two
// halves of all addresses that VPNs route, 0.0.0.0/1 and 128.0.0.0/1, count as default
// routes.
func (h Holdings) Gateways() []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	for _, r := range h.Routes {
		if r.Dst().Bits() > 1 {
			continue
		}
		add(r.Gateway())
		for _, hop := range r.Hops() {
			if hop.Link == h.Index {
				add(hop.Gateway)
			}
		}
	}
	return list
}

// Same reports whether nothing differs but lifetimes and neighbors.
func (h Holdings) Same(o Holdings) bool {
	return slices.EqualFunc(h.Addrs, o.Addrs, rtnl.Address.Same) && slices.EqualFunc(h.Routes, o.Routes, rtnl.Route.Same) &&
		slices.EqualFunc(h.Rules, o.Rules, func(a, b rtnl.Rule) bool { return slices.Equal(a.Message, b.Message) })
}

// Has reports whether the address is there, with any flags and lifetimes.
func (h Holdings) Has(a rtnl.Address) bool {
	return slices.ContainsFunc(h.Addrs, func(o rtnl.Address) bool {
		peer, _ := o.Peer()
		other, _ := a.Peer()
		return o.Prefix() == a.Prefix() && peer == other
	})
}

// HasAll reports whether the addresses of the others are there.
func (h Holdings) HasAll(others Holdings) bool {
	return !slices.ContainsFunc(others.Addrs, func(o rtnl.Address) bool {
		return !slices.ContainsFunc(h.Addrs, func(a rtnl.Address) bool { return a.Prefix() == o.Prefix() })
	})
}

// HasTemporary reports whether the address is there as a temporary one (RFC 8981).
func (h Holdings) HasTemporary(a rtnl.Address) bool {
	return slices.ContainsFunc(h.Addrs, func(o rtnl.Address) bool { return o.Temporary() && o.Local() == a.Local() })
}

// Aged returns what is left of the holdings after so many seconds: addresses whose
// lifetime has ended are gone.
func (h Holdings) Aged(seconds int64) Holdings {
	later := func(v uint32) uint32 {
		if v == rtnl.Forever {
			return v
		}
		return uint32(max(int64(v)-seconds, 0))
	}
	out := h
	out.Addrs = nil
	for _, a := range h.Addrs {
		l := a.Lifetimes()
		l = rtnl.Lifetimes{Preferred: later(l.Preferred), Valid: later(l.Valid)}
		if l.Valid != 0 {
			out.Addrs = append(out.Addrs, a.WithLifetimes(l))
		}
	}
	return out
}

// nearest returns the address from which to ask for a neighbor: one in whose prefix it
// is, else any one of its family, not valid without one.
func nearest(addrs []rtnl.Address, neighbor netip.Addr) netip.Addr {
	var best netip.Addr
	for _, a := range addrs {
		switch {
		case a.Local().Is4() != neighbor.Is4():
		case a.Prefix().Masked().Contains(neighbor):
			return a.Local()
		case !best.IsValid():
			best = a.Local()
		}
	}
	return best
}

// RaisedBy is what step.RaiseMetrics adds to the metric of a route, so that it goes after
// all other routes.
const RaisedBy = 1 << 30

// Raisable returns the routes whose metrics may be raised, and nothing else.
func (h Holdings) Raisable() Holdings {
	out := Holdings{Index: h.Index, Since: h.Since}
	for i, r := range h.Routes {
		if h.raisable(r) {
			out.Routes, out.First = append(out.Routes, r), append(out.First, h.First[i])
		}
	}
	return out
}

// raisable reports whether the route's metric may be raised. Of routes by router
// advertisements, the kernel itself prefers one whose gateway answers (RFC 4861, 6.3.6).
func (h Holdings) raisable(r rtnl.Route) bool {
	advertised := r.Family() == unix.AF_INET6 && r.Gateway().IsValid() && r.Expires() != 0
	elsewhere := slices.ContainsFunc(r.Hops(), func(p rtnl.Hop) bool { return p.Link != h.Index })
	local := r.Dst().Addr().IsLinkLocalUnicast() || r.Dst().Addr().IsMulticast()
	return r.Type() == unix.RTN_UNICAST && r.Metric() < RaisedBy && !advertised && !elsewhere && !local && !r.Unmovable()
}
