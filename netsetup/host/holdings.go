package host

import (
	"bytes"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Holdings are what the host has by a link, and what goes along when the link
// becomes a port: addresses, routes of all tables, neighbours that were set or
// are known, and policy rules that name the link. In the kernel's order.
type Holdings struct {
	Index  int        `json:"index"` // of the link
	Since  int64      `json:"since"` // when they were read, in seconds of CLOCK_BOOTTIME
	Addrs  []rtnl.Raw `json:"addrs,omitempty"`
	Routes []rtnl.Raw `json:"routes,omitempty"` // but those the kernel keeps in the table "local"
	First  []bool     `json:"first,omitempty"`  // of each route: it goes before a like one by another link
	Neighs []rtnl.Raw `json:"neighs,omitempty"`
	Rules  []rtnl.Raw `json:"rules,omitempty"`

	Names map[int]string `json:"names,omitempty"` // of other links that multipath routes lead to
}

func (h Holdings) AddressList() []rtnl.Address {
	list := make([]rtnl.Address, len(h.Addrs))
	for i, r := range h.Addrs {
		list[i] = rtnl.Address{Raw: r}
	}
	return list
}

func (h Holdings) RouteList() []rtnl.Route {
	list := make([]rtnl.Route, len(h.Routes))
	for i, r := range h.Routes {
		list[i] = rtnl.Route{Raw: r}
	}
	return list
}

// moving is a route of holdings; first tells that it goes before like ones.
type moving struct {
	rtnl.Route
	First bool
}

// InOrder lists the routes so that each gateway is reached by one before it.
func (h Holdings) InOrder() []moving {
	list := make([]moving, len(h.Routes))
	for i, r := range h.RouteList() {
		list[i] = moving{r, h.First[i]}
	}
	depth := func(m moving) int {
		if m.Family() == unix.AF_INET6 && m.Replaces() {
			return 1
		}
		return -int(m.Scope()) // a gateway must be nearer than what is behind it
	}
	slices.SortStableFunc(list, func(a, b moving) int { return depth(a) - depth(b) })
	return list
}

// Empty reports whether nothing but what any link has is there.
func (h Holdings) Empty() bool {
	return !slices.ContainsFunc(h.AddressList(), func(a rtnl.Address) bool { return !a.Local().IsLinkLocalUnicast() })
}

// Lasts reports whether one of the addresses has no end.
func (h Holdings) Lasts() bool {
	return slices.ContainsFunc(h.AddressList(), func(a rtnl.Address) bool { return !a.Dynamic() && !a.Local().IsLinkLocalUnicast() })
}

// Carries reports whether the host has something by the link that a port cannot
// carry: an address or a route that not every link has.
func (h Holdings) Carries() bool {
	return !h.Empty() || slices.ContainsFunc(h.RouteList(), func(r rtnl.Route) bool { return !r.Dst().Addr().IsLinkLocalUnicast() })
}

// Gateways are those of the default routes, each once.
func (h Holdings) Gateways() []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	for _, r := range h.RouteList() {
		if r.Dst().Bits() > 1 { // a VPN's halves of everything count too
			continue
		}
		add(r.Gateway())
		for _, hop := range r.Hops() {
			if hop.Index != h.Index {
				continue
			}
			for _, a := range rtnl.Attrs(hop.Attrs) {
				if a.Kind == unix.RTA_GATEWAY {
					gw, _ := netip.AddrFromSlice(a.Value)
					add(gw)
				}
			}
		}
	}
	return list
}

// Same reports whether nothing has changed but lifetimes and neighbours.
func (h Holdings) Same(o Holdings) bool {
	equalAddr := func(a, b rtnl.Raw) bool {
		return bytes.Equal(rtnl.Address{Raw: a}.Plain(), rtnl.Address{Raw: b}.Plain())
	}
	equalRoute := func(a, b rtnl.Raw) bool { return rtnl.Route{Raw: a}.Same(rtnl.Route{Raw: b}) }
	return slices.EqualFunc(h.Addrs, o.Addrs, equalAddr) && slices.EqualFunc(h.Routes, o.Routes, equalRoute) &&
		slices.EqualFunc(h.Rules, o.Rules, func(a, b rtnl.Raw) bool { return bytes.Equal(a, b) })
}

// Has reports whether the address is there, whatever its flags and lifetimes.
func (h Holdings) Has(a rtnl.Address) bool {
	return slices.ContainsFunc(h.AddressList(), func(o rtnl.Address) bool {
		peer, _ := o.Peer()
		other, _ := a.Peer()
		return o.Prefix() == a.Prefix() && peer == other
	})
}

// Temporary reports whether the address was a temporary one here.
func (h Holdings) Temporary(a rtnl.Address) bool {
	return slices.ContainsFunc(h.AddressList(), func(o rtnl.Address) bool { return o.Temporary() && o.Local() == a.Local() })
}

// Aged is what is left of the holdings so much later, in seconds.
func (h Holdings) Aged(seconds int64) Holdings {
	later := func(v uint32) uint32 {
		if v == rtnl.Forever {
			return v
		}
		return uint32(max(int64(v)-seconds, 0))
	}
	out := h
	out.Addrs = nil
	for _, a := range h.AddressList() {
		l := a.Lifetimes()
		l = rtnl.Lifetimes{Preferred: later(l.Preferred), Valid: later(l.Valid)}
		if l.Valid != 0 {
			out.Addrs = append(out.Addrs, a.Lasting(l).Raw)
		}
	}
	return out
}

// nearest is the address to ask a neighbour from: one of its prefix, else any of
// its family.
func (h Holdings) nearest(target netip.Addr) netip.Addr {
	var best netip.Addr
	for _, a := range h.AddressList() {
		switch {
		case a.Local().Is4() != target.Is4():
		case a.Prefix().Masked().Contains(target):
			return a.Local()
		case !best.IsValid():
			best = a.Local()
		}
	}
	return best
}

// HasAll reports whether the addresses of the others are among these.
func (h Holdings) HasAll(others Holdings) bool {
	return !slices.ContainsFunc(others.AddressList(), func(o rtnl.Address) bool {
		return !slices.ContainsFunc(h.AddressList(), func(a rtnl.Address) bool { return a.Prefix() == o.Prefix() })
	})
}

// RaisedBy is what is added to the metric of a route that is to go after all others.
const RaisedBy = 1 << 30

// Raisable leaves out of the holdings what is not to be raised.
func (h Holdings) Raisable() Holdings {
	out := Holdings{Index: h.Index, Since: h.Since}
	for i, r := range h.RouteList() {
		advertised := r.Family() == unix.AF_INET6 && r.Gateway().IsValid() && r.Expires() != 0
		elsewhere := slices.ContainsFunc(r.Hops(), func(p rtnl.Hop) bool { return p.Index != h.Index })
		local := r.Dst().Addr().IsLinkLocalUnicast() || r.Dst().Addr().IsMulticast()
		if r.Class() != unix.RTN_UNICAST || r.Metric() >= RaisedBy || advertised || elsewhere || local || r.Strange() {
			continue
		}
		out.Routes, out.First = append(out.Routes, r.Raw), append(out.First, h.First[i])
	}
	return out
}
