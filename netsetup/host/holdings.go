package netsetup

import (
	"bytes"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Holdings are what the host has by a link, and what goes along when the link
// becomes a port: addresses, routes of all tables, neighbours that were set or
// are known, and policy rules that name the link. In the kernel's order.
type Holdings struct {
	Index  int    `json:"index"` // of the link
	Since  int64  `json:"since"` // when they were read, in seconds of CLOCK_BOOTTIME
	Addrs  []Raw  `json:"addrs,omitempty"`
	Routes []Raw  `json:"routes,omitempty"` // but those the kernel keeps in the table "local"
	First  []bool `json:"first,omitempty"`  // of each route: it goes before a like one by another link
	Neighs []Raw  `json:"neighs,omitempty"`
	Rules  []Raw  `json:"rules,omitempty"`

	Names map[int]string `json:"names,omitempty"` // of other links that multipath routes lead to
}

func (h Holdings) addresses() []address {
	list := make([]address, len(h.Addrs))
	for i, r := range h.Addrs {
		list[i] = address{r}
	}
	return list
}

func (h Holdings) routes() []route {
	list := make([]route, len(h.Routes))
	for i, r := range h.Routes {
		list[i] = route{r}
	}
	return list
}

// moving is a route of holdings; first tells that it goes before like ones.
type moving struct {
	route
	first bool
}

// inOrder lists the routes so that each gateway is reached by one before it.
func (h Holdings) inOrder() []moving {
	list := make([]moving, len(h.Routes))
	for i, r := range h.routes() {
		list[i] = moving{r, h.First[i]}
	}
	depth := func(m moving) int {
		if m.family() == unix.AF_INET6 && m.replaces() {
			return 1
		}
		return -int(m.scope()) // a gateway must be nearer than what is behind it
	}
	slices.SortStableFunc(list, func(a, b moving) int { return depth(a) - depth(b) })
	return list
}

// empty reports whether nothing but what any link has is there.
func (h Holdings) empty() bool {
	return !slices.ContainsFunc(h.addresses(), func(a address) bool { return !a.local().IsLinkLocalUnicast() })
}

// lasts reports whether one of the addresses has no end.
func (h Holdings) lasts() bool {
	return slices.ContainsFunc(h.addresses(), func(a address) bool { return !a.dynamic() && !a.local().IsLinkLocalUnicast() })
}

// carries reports whether the host has something by the link that a port cannot
// carry: an address or a route that not every link has.
func (h Holdings) carries() bool {
	return !h.empty() || slices.ContainsFunc(h.routes(), func(r route) bool { return !r.dst().Addr().IsLinkLocalUnicast() })
}

// Gateways are those of the default routes, each once.
func (h Holdings) Gateways() []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	for _, r := range h.routes() {
		if r.dst().Bits() > 1 { // a VPN's halves of everything count too
			continue
		}
		add(r.gateway())
		for _, hop := range r.hops() {
			if hop.index != h.Index {
				continue
			}
			for _, a := range attrs(hop.attrs) {
				if a.kind == unix.RTA_GATEWAY {
					gw, _ := netip.AddrFromSlice(a.value)
					add(gw)
				}
			}
		}
	}
	return list
}

// same reports whether nothing has changed but lifetimes and neighbours.
func (h Holdings) same(o Holdings) bool {
	equalAddr := func(a, b Raw) bool { return bytes.Equal(address{a}.plain(), address{b}.plain()) }
	equalRoute := func(a, b Raw) bool { return route{a}.same(route{b}) }
	return slices.EqualFunc(h.Addrs, o.Addrs, equalAddr) && slices.EqualFunc(h.Routes, o.Routes, equalRoute) &&
		slices.EqualFunc(h.Rules, o.Rules, func(a, b Raw) bool { return bytes.Equal(a, b) })
}

// has reports whether the address is there, whatever its flags and lifetimes.
func (h Holdings) has(a address) bool {
	return slices.ContainsFunc(h.addresses(), func(o address) bool {
		peer, _ := o.peer()
		other, _ := a.peer()
		return o.prefix() == a.prefix() && peer == other
	})
}

// temporary reports whether the address was a temporary one here.
func (h Holdings) temporary(a address) bool {
	return slices.ContainsFunc(h.addresses(), func(o address) bool { return o.temporary() && o.local() == a.local() })
}

// aged is what is left of the holdings so much later, in seconds.
func (h Holdings) aged(seconds int64) Holdings {
	later := func(v uint32) uint32 {
		if v == forever {
			return v
		}
		return uint32(max(int64(v)-seconds, 0))
	}
	out := h
	out.Addrs = nil
	for _, a := range h.addresses() {
		l := a.lifetimes()
		l = lifetimes{later(l.preferred), later(l.valid)}
		if l.valid != 0 {
			out.Addrs = append(out.Addrs, a.lasting(l).Raw)
		}
	}
	return out
}

// nearest is the address to ask a neighbour from: one of its prefix, else any of
// its family.
func (h Holdings) nearest(target netip.Addr) netip.Addr {
	var best netip.Addr
	for _, a := range h.addresses() {
		switch {
		case a.local().Is4() != target.Is4():
		case a.prefix().Masked().Contains(target):
			return a.local()
		case !best.IsValid():
			best = a.local()
		}
	}
	return best
}

// hasAll reports whether the addresses of the others are among these.
func (h Holdings) hasAll(others Holdings) bool {
	return !slices.ContainsFunc(others.addresses(), func(o address) bool {
		return !slices.ContainsFunc(h.addresses(), func(a address) bool { return a.prefix() == o.prefix() })
	})
}

// raisedBy is what is added to the metric of a route that is to go after all others.
const raisedBy = 1 << 30

// raisable leaves out of the holdings what is not to be raised.
func (h Holdings) raisable() Holdings {
	out := Holdings{Index: h.Index, Since: h.Since}
	for i, r := range h.routes() {
		advertised := r.family() == unix.AF_INET6 && r.gateway().IsValid() && r.expires() != 0
		elsewhere := slices.ContainsFunc(r.hops(), func(p hop) bool { return p.index != h.Index })
		local := r.dst().Addr().IsLinkLocalUnicast() || r.dst().Addr().IsMulticast()
		if r.class() != unix.RTN_UNICAST || r.metric() >= raisedBy || advertised || elsewhere || local || r.strange() {
			continue
		}
		out.Routes, out.First = append(out.Routes, r.Raw), append(out.First, h.First[i])
	}
	return out
}
