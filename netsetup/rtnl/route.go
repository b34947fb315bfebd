package rtnl

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/order"
)

// Route is a message of RTM_NEWROUTE.
type Route struct{ Message }

// Family returns AF_INET or AF_INET6.
func (r Route) Family() int { return int(r.Message[0]) }

// TOS returns the type of service that the route is for, 0 for all.
func (r Route) TOS() byte { return r.Message[3] }

// Clone returns a copy that shares no memory with the route.
func (r Route) Clone() Route { return Route{slices.Clone(r.Message)} }

// Protocol returns the RTPROT_ number of the route's origin (linux/rtnetlink.h).
func (r Route) Protocol() int { return int(r.Message[5]) }

// Scope returns the RT_SCOPE_ number, the distance to the destination. IPv6 has none.
func (r Route) Scope() byte { return r.Message[6] }

// Type returns the RTN_ number: unicast, blackhole and so on.
func (r Route) Type() byte { return r.Message[7] }

func (r Route) flags() uint32 { return binary.NativeEndian.Uint32(r.Message[8:]) }

// Table returns the number of the routing table.
func (r Route) Table() int {
	if t := r.uint32(routeHeader, unix.RTA_TABLE); t != 0 {
		return int(t)
	}
	return int(r.Message[4])
}

// Dst returns the destination, a prefix of length 0 for a default route.
func (r Route) Dst() netip.Prefix {
	a := r.addr(routeHeader, unix.RTA_DST)
	if !a.IsValid() && r.Family() == unix.AF_INET {
		a = netip.IPv4Unspecified()
	} else if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return netip.PrefixFrom(a, int(r.Message[1]))
}

// Gateway returns the gateway of a route with one nexthop, not valid if there is none.
func (r Route) Gateway() netip.Addr { return gateway(r.Message[routeHeader:]) }

// gateway returns the gateway of a nexthop, which may be of the other family (RFC 5549,
// struct rtvia).
func gateway(nexthop Message) netip.Addr {
	if v := nexthop.attr(0, unix.RTA_VIA); len(v) > 2 {
		a, _ := netip.AddrFromSlice(v[2:])
		return a
	}
	return nexthop.addr(0, unix.RTA_GATEWAY)
}

// Metric returns the route's priority among those to the same destination: the lowest wins.
func (r Route) Metric() uint32 { return r.uint32(routeHeader, unix.RTA_PRIORITY) }

// Expires returns after how many seconds the kernel drops the route, 0 for never.
// struct rta_cacheinfo counts in 1/100 s.
func (r Route) Expires() uint32 {
	v := r.attr(routeHeader, unix.RTA_CACHEINFO)
	if len(v) < 12 {
		return 0
	}
	ticks := int32(binary.NativeEndian.Uint32(v[8:]))
	return uint32(max(ticks, 0)+99) / 100
}

// Hop is one nexthop of a multipath route, struct rtnexthop.
type Hop struct {
	Link    int        // index
	Gateway netip.Addr // not valid if there is none

	flags, weight byte
	attrs         []byte
}

const hopHeader = 8 // sizeof(struct rtnexthop)

// Hops returns the nexthops of a multipath route; none of any other route.
func (r Route) Hops() []Hop {
	b := r.attr(routeHeader, unix.RTA_MULTIPATH)
	var list []Hop
	for len(b) >= hopHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < hopHeader || n > len(b) {
			break
		}
		attrs := b[hopHeader:n]
		list = append(list, Hop{
			Link: int(binary.NativeEndian.Uint32(b[4:])), Gateway: gateway(attrs), flags: b[2], weight: b[3], attrs: attrs,
		})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func multipath(hops []Hop) Attr {
	var b []byte
	for _, h := range hops {
		b = binary.NativeEndian.AppendUint16(b, uint16(hopHeader+len(h.attrs)))
		b = append(b, h.flags, h.weight)
		b = binary.NativeEndian.AppendUint32(b, uint32(h.Link))
		b = append(b, h.attrs...)
		b = append(b, make([]byte, align4(len(h.attrs))-len(h.attrs))...)
	}
	return Attr{unix.RTA_MULTIPATH, b}
}

// Link returns the index of the link of a route with one nexthop, 0 for any other.
func (r Route) Link() int { return int(r.uint32(routeHeader, unix.RTA_OIF)) }

// Dead reports whether the kernel does not use the route, because its link is gone or has no
// carrier (RTNH_F_DEAD).
func (r Route) Dead() bool { return r.flags()&unix.RTNH_F_DEAD != 0 }

// Nexthop returns the id of the route's nexthop object (ip-nexthop(8)), 0 if it has none.
func (r Route) Nexthop() uint32 { return r.uint32(routeHeader, nexthopID) }

// Uses reports whether the route leads by the link with that index.
func (r Route) Uses(link int) bool {
	if r.Link() == link {
		return true
	}
	return slices.ContainsFunc(r.Hops(), func(h Hop) bool { return h.Link == link })
}

// Automatic reports whether the kernel makes the route with an address or a link, in the
// table "local".
func (r Route) Automatic() bool {
	return r.Protocol() == unix.RTPROT_KERNEL && r.Table() == unix.RT_TABLE_LOCAL
}

// Tie is what routes have in common between which nothing but the order decides in which they
// were added. Of such routes the kernel takes the first one that it can use.
type Tie struct {
	Table  int
	Dst    netip.Prefix
	TOS    byte
	Metric uint32
}

// Tie returns the route's.
func (r Route) Tie() Tie { return Tie{r.Table(), r.Dst(), r.TOS(), r.Metric()} }

// BySpecificity orders routes for their deletion: one with more attributes comes before one
// with fewer. The kernel deletes the first IPv4 route that has all attributes of the request,
// and may have more (fib_table_delete in net/ipv4/fib_trie.c).
func BySpecificity(a, b Route) int {
	if a.Family() != unix.AF_INET || b.Family() != unix.AF_INET {
		return 0
	}
	return len(b.Plain().Message) - len(a.Plain().Message)
}

// Over returns the route with another link in place of the first one, both by index, as
// the kernel takes it.
func (r Route) Over(from, to int) Route {
	out := r.edited(routeHeader, func(a Attr) (Attr, bool) {
		switch a.Type {
		case unix.RTA_CACHEINFO:
			return a, false
		case unix.RTA_OIF:
			if int(r.uint32(routeHeader, unix.RTA_OIF)) == from {
				a = Uint32(a.Type, uint32(to))
			}
		case unix.RTA_MULTIPATH:
			hops := r.Hops()
			for i := range hops {
				hops[i].flags &= unix.RTNH_F_ONLINK
				if hops[i].Link == from {
					hops[i].Link = to
				}
			}
			return multipath(hops), true
		}
		return a, true
	})
	if s := r.Expires(); s != 0 {
		out = Append(out, Uint32(unix.RTA_EXPIRES, s))
	}
	// The kernel finds out whether the link is down or dead.
	binary.NativeEndian.PutUint32(out[8:], r.flags()&unix.RTNH_F_ONLINK)
	return Route{out}
}

// Fresh returns the route as the kernel takes it, with the lifetime it has left.
func (r Route) Fresh() Route { return r.Over(0, 0) }

// Plain returns the route without its lifetime and the kernel's own notes.
func (r Route) Plain() Route {
	return Route{r.Fresh().edited(routeHeader, func(a Attr) (Attr, bool) { return a, a.Type != unix.RTA_EXPIRES })}
}

// Same reports whether two routes differ in nothing but lifetimes, the kernel's own notes,
// and the order of their attributes.
func (r Route) Same(o Route) bool { return bytes.Equal(r.sorted(), o.sorted()) }

// sorted returns the plain route with its attributes by their type.
func (r Route) sorted() Message {
	plain := r.Plain()
	list := Attrs(plain.Message[routeHeader:])
	order.By(list, func(a, b Attr) int { return int(a.Type) - int(b.Type) })
	return Append(slices.Clone(plain.Message[:routeHeader]), list...)
}

// NeedsReplace reports whether the route must be added in place of a like one
// (NLM_F_REPLACE): the kernel would make an IPv6 route by a gateway one more path of it.
func (r Route) NeedsReplace() bool {
	return r.Family() == unix.AF_INET6 && (r.Gateway().IsValid() || len(r.Hops()) > 0)
}

// RTA_NH_ID of linux/rtnetlink.h: a nexthop object, ip-nexthop(8).
const nexthopID = 30

// Unmovable reports whether the route cannot be shown as a command or given to another
// link: it has a nexthop object or an encapsulation.
func (r Route) Unmovable() bool {
	wrapped := func(nexthop []Attr) bool { return find(nexthop, unix.RTA_ENCAP) != nil }
	hops := slices.ContainsFunc(r.Hops(), func(h Hop) bool { return wrapped(Attrs(h.attrs)) })
	return hops || wrapped(Attrs(r.Message[routeHeader:])) || r.attr(routeHeader, nexthopID) != nil
}

// WithMetric returns the route with another metric, as the kernel takes it.
func (r Route) WithMetric(metric uint32) Route {
	return Route{r.Fresh().edited(routeHeader, func(a Attr) (Attr, bool) {
		return a, a.Type != unix.RTA_PRIORITY
	}, Uint32(unix.RTA_PRIORITY, metric))}
}

// preferenceShift is where the flags of an IPv6 route hold its preference (RTF_PREF in
// linux/ipv6_route.h).
const preferenceShift = 27

// PreferenceFlag returns the preference of a route by a router advertisement (RFC 4191,
// 2.1) as the RTF_PREF flags of linux/ipv6_route.h.
func (r Route) PreferenceFlag() uint32 {
	v := r.attr(routeHeader, unix.RTA_PREF)
	if len(v) == 0 {
		return 0
	}
	return uint32(v[0]&3) << preferenceShift
}
