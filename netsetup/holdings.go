package netsetup

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

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

// checked reports whether the kernel has found the IPv6 address to be nobody else's.
func (a address) checked() bool {
	return a.family() == unix.AF_INET6 && a.flags()&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// has reports whether the address is there, whatever its flags and lifetimes.
func (h Holdings) has(a address) bool {
	return slices.ContainsFunc(h.addresses(), func(o address) bool {
		peer, _ := o.peer()
		other, _ := a.peer()
		return o.prefix() == a.prefix() && peer == other
	})
}

// temporary reports whether the kernel made the address to be used for a while.
func (a address) temporary() bool {
	return a.family() == unix.AF_INET6 && a.flags()&unix.IFA_F_TEMPORARY != 0
}

// temporary reports whether the address was a temporary one here.
func (h Holdings) temporary(a address) bool {
	return slices.ContainsFunc(h.addresses(), func(o address) bool { return o.temporary() && o.local() == a.local() })
}

// plain is the address without lifetimes, and without flags that come and go.
func (a address) plain() Raw {
	out := a.edited(addrKind, func(at attr) (attr, bool) {
		if at.kind == unix.IFA_FLAGS {
			at.value = u32(a.flags() &^ (unix.IFA_F_TENTATIVE | unix.IFA_F_DEPRECATED | unix.IFA_F_OPTIMISTIC))
		}
		return at, at.kind != unix.IFA_CACHEINFO
	})
	out[2] = 0
	return out
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

func (a address) lasting(l lifetimes) address {
	return address{a.edited(addrKind, func(at attr) (attr, bool) {
		return at, at.kind != unix.IFA_CACHEINFO
	}, attr{unix.IFA_CACHEINFO, slices.Concat(u32(l.preferred), u32(l.valid), make([]byte, 8))})}
}

// labelled is an IPv4 address's label on another link: what follows the link's
// name stays. was is asked where the name is too long for that.
func (a address) labelled(from, to string, was func(address) string) string {
	label := a.text(addrKind, unix.IFA_LABEL)
	tail, ok := strings.CutPrefix(label, from)
	switch {
	case label == "" || a.family() != unix.AF_INET:
		return ""
	case !ok || tail != "" && tail[0] != ':':
		return label // somebody's own
	case tail == "" && was != nil && was(a) != "":
		return was(a)
	case len(to+tail) > maxIfname:
		return to
	}
	return to + tail
}

// settable are the flags that a program may give an address (inet6_rtm_newaddr).
const settable = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// on is the address on another link, as the kernel takes it.
func (a address) on(index int, label string, flags uint32) address {
	out := address{a.edited(addrKind, func(at attr) (attr, bool) {
		switch at.kind {
		case unix.IFA_FLAGS, unix.IFA_LABEL:
			return at, false
		case unix.IFA_CACHEINFO:
			l := a.lifetimes()
			at.value = slices.Concat(u32(l.preferred), u32(l.valid), make([]byte, 8))
		}
		return at, true
	}, attr{unix.IFA_FLAGS, u32(flags)})}
	if label != "" {
		out.Raw = appendAttr(out.Raw, attr{unix.IFA_LABEL, append([]byte(label), 0)})
	}
	out.Raw[2] = 0 // the flags are in the attribute
	binary.NativeEndian.PutUint32(out.Raw[4:], uint32(index))
	return out
}

// neighbour is a Raw of RTM_NEWNEIGH.
type neighbour struct{ Raw }

func (n neighbour) family() int   { return int(n.Raw[0]) }
func (n neighbour) index() int    { return int(binary.NativeEndian.Uint32(n.Raw[4:])) }
func (n neighbour) state() uint16 { return binary.NativeEndian.Uint16(n.Raw[8:]) }
func (n neighbour) proxy() bool   { return n.Raw[10]&unix.NTF_PROXY != 0 }

// set reports whether somebody set the neighbour, so that it must not be lost.
func (n neighbour) set() bool { return n.proxy() || n.state()&unix.NUD_PERMANENT != 0 }

// worth reports whether the neighbour is worth taking along.
func (n neighbour) worth() bool {
	known := uint16(unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE)
	return n.set() || n.state()&known != 0
}

// on is the neighbour on another link. What was learned is to be confirmed anew.
func (n neighbour) on(index int) neighbour {
	out := neighbour{n.edited(bodyKind, func(a attr) (attr, bool) {
		return a, a.kind != unix.NDA_CACHEINFO && a.kind != unix.NDA_PROBES
	})}
	binary.NativeEndian.PutUint32(out.Raw[4:], uint32(index))
	if !n.set() {
		binary.NativeEndian.PutUint16(out.Raw[8:], unix.NUD_STALE)
		out.Raw[10] &= unix.NTF_ROUTER
	}
	return out
}

func (n neighbour) mac() net.HardwareAddr { return n.attr(bodyKind, unix.NDA_LLADDR) }

// rule is a Raw of RTM_NEWRULE.
type rule struct{ Raw }

func (r rule) family() int { return int(r.Raw[0]) }

func (r rule) names(link string) bool {
	return r.text(bodyKind, unix.FRA_IIFNAME) == link || r.text(bodyKind, unix.FRA_OIFNAME) == link
}

// naming is the rule with another link's name.
func (r rule) naming(from, to string) rule {
	out := rule{r.edited(bodyKind, func(a attr) (attr, bool) {
		if (a.kind == unix.FRA_IIFNAME || a.kind == unix.FRA_OIFNAME) && strings.TrimRight(string(a.value), "\x00") == from {
			a.value = append([]byte(to), 0)
		}
		return a, true
	})}
	binary.NativeEndian.PutUint32(out.Raw[8:], binary.NativeEndian.Uint32(r.Raw[8:])&unix.FIB_RULE_INVERT)
	return out
}
