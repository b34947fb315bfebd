package rtnl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Route is a Raw of RTM_NEWROUTE.
type Route struct{ Raw }

func (r Route) Family() int { return int(r.Raw[0]) }

func (r Route) tos() byte { return r.Raw[3] }

func (r Route) Protocol() int { return int(r.Raw[5]) }

func (r Route) Scope() byte { return r.Raw[6] }

func (r Route) Class() byte { return r.Raw[7] } // rtm_type

func (r Route) Table() int {
	if t := r.u32(BodyKind, unix.RTA_TABLE); t != 0 {
		return int(t)
	}
	return int(r.Raw[4])
}

func (r Route) Dst() netip.Prefix {
	a := r.Addr(BodyKind, unix.RTA_DST)
	if !a.IsValid() && r.Family() == unix.AF_INET {
		a = netip.IPv4Unspecified()
	} else if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return netip.PrefixFrom(a, int(r.Raw[1]))
}

func (r Route) Gateway() netip.Addr {
	if v := r.attr(BodyKind, unix.RTA_VIA); len(v) > 2 { // struct rtvia: a gateway of the other family
		a, _ := netip.AddrFromSlice(v[2:])
		return a
	}
	return r.Addr(BodyKind, unix.RTA_GATEWAY)
}

func (r Route) Metric() uint32 { return r.u32(BodyKind, unix.RTA_PRIORITY) }

// Expires is after how many seconds the kernel drops the route, 0 for never.
// struct rta_cacheinfo counts in 1/100 s.
func (r Route) Expires() uint32 {
	v := r.attr(BodyKind, unix.RTA_CACHEINFO)
	if len(v) < 12 {
		return 0
	}
	ticks := int32(binary.NativeEndian.Uint32(v[8:]))
	return uint32(max(ticks, 0)+99) / 100
}

// Hop is one nexthop of a multipath route, struct rtnexthop.
type Hop struct {
	flags  byte
	weight byte // less one
	Index  int
	Attrs  []byte
}

const hopHeader = 8

func (r Route) Hops() []Hop {
	b := r.attr(BodyKind, unix.RTA_MULTIPATH)
	var list []Hop
	for len(b) >= hopHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < hopHeader || n > len(b) {
			break
		}
		list = append(list, Hop{b[2], b[3], int(binary.NativeEndian.Uint32(b[4:])), b[hopHeader:n]})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func multipath(hops []Hop) Attr {
	var b []byte
	for _, h := range hops {
		b = binary.NativeEndian.AppendUint16(b, uint16(hopHeader+len(h.Attrs)))
		b = append(b, h.flags, h.weight)
		b = append(b, U32(uint32(h.Index))...)
		b = append(b, h.Attrs...)
		b = append(b, make([]byte, align4(len(h.Attrs))-len(h.Attrs))...)
	}
	return Attr{unix.RTA_MULTIPATH, b}
}

// Uses reports whether the route leaves by the link with that index.
func (r Route) Uses(index int) bool {
	if int(r.u32(BodyKind, unix.RTA_OIF)) == index {
		return true
	}
	return slices.ContainsFunc(r.Hops(), func(h Hop) bool { return h.Index == index })
}

// Automatic reports whether the kernel makes the route with an address or a link.
func (r Route) Automatic() bool {
	return r.Protocol() == unix.RTPROT_KERNEL && r.Table() == unix.RT_TABLE_LOCAL
}

// Tied reports whether two routes are alike but for where they lead to, so that
// the order in which they were added decides.
func (r Route) Tied(o Route) bool {
	return r.Table() == o.Table() && r.Dst() == o.Dst() && r.tos() == o.tos() && r.Metric() == o.Metric()
}

// Over is the route by another link, as the kernel takes it.
func (r Route) Over(from, to int) Route {
	out := Route{r.edited(BodyKind, func(a Attr) (Attr, bool) {
		switch a.Kind {
		case unix.RTA_CACHEINFO:
			return a, false
		case unix.RTA_OIF:
			if int(binary.NativeEndian.Uint32(a.Value)) == from {
				a.Value = U32(uint32(to))
			}
		case unix.RTA_MULTIPATH:
			hops := r.Hops()
			for i := range hops {
				hops[i].flags &= unix.RTNH_F_ONLINK
				if hops[i].Index == from {
					hops[i].Index = to
				}
			}
			return multipath(hops), true
		}
		return a, true
	})}
	if s := r.Expires(); s != 0 {
		out.Raw = AppendAttr(out.Raw, Attr{unix.RTA_EXPIRES, U32(s)})
	}
	// Whether the link is down or dead is the kernel's to find out.
	binary.NativeEndian.PutUint32(out.Raw[8:], binary.NativeEndian.Uint32(r.Raw[8:])&unix.RTNH_F_ONLINK)
	return out
}

// Plain is the route without what passes: lifetimes and the kernel's own notes.
func (r Route) Plain() Raw {
	out := r.Over(0, 0)
	return out.edited(BodyKind, func(a Attr) (Attr, bool) { return a, a.Kind != unix.RTA_EXPIRES })
}

func (r Route) Same(o Route) bool { return bytes.Equal(r.Plain(), o.Plain()) }

// Replaces reports whether the kernel takes the route in the place of the like
// one: an IPv6 route by a gateway would else become one more path of it.
func (r Route) Replaces() bool {
	return r.Family() == unix.AF_INET6 && (r.Gateway().IsValid() || len(r.Hops()) > 0)
}

// RTANHID is RTA_NH_ID (linux/rtnetlink.h): a nexthop object.
const RTANHID = 30

// Strange reports whether the route cannot be told in words or moved alone.
func (r Route) Strange() bool {
	nested := slices.ContainsFunc(r.Hops(), func(h Hop) bool {
		return slices.ContainsFunc(Attrs(h.Attrs), func(a Attr) bool { return a.Kind == unix.RTA_ENCAP })
	})
	return nested || r.attr(BodyKind, unix.RTA_ENCAP) != nil || r.attr(BodyKind, RTANHID) != nil
}

// WithMetric is the route with another metric, as the kernel takes it.
func (r Route) WithMetric(metric uint32) Route {
	out := r.Over(0, 0)
	return Route{out.edited(BodyKind, func(a Attr) (Attr, bool) { return a, a.Kind != unix.RTA_PRIORITY }, Attr{unix.RTA_PRIORITY, U32(metric)})}
}

// Alike reports whether two routes are the same, in whatever order they are told.
func (r Route) Alike(o Route) bool { return bytes.Equal(r.ordered(), o.ordered()) }

func (r Route) ordered() Raw {
	plain := r.Plain()
	list := plain.attrs(BodyKind)
	slices.SortStableFunc(list, func(a, b Attr) int { return int(a.Kind) - int(b.Kind) })
	out := slices.Clone(plain[:BodyKind])
	for _, a := range list {
		out = AppendAttr(out, a)
	}
	return out
}

// prefShift is where the flags of an IPv6 route hold its preference
// (RTF_PREF in linux/ipv6_route.h).
const prefShift = 27

// Preference is the route's, RFC 4191, as a flag.
func (r Route) Preference() uint32 {
	v := r.attr(BodyKind, unix.RTA_PREF)
	if len(v) == 0 {
		return 0
	}
	return uint32(v[0]&3) << prefShift
}

// DelRoute deletes a route by the link of that name. One that is gone is no error.
//
//	ip route del ROUTE
func DelRoute(link string, r Route) Request {
	return Request{
		Type: unix.RTM_DELROUTE, Data: r.Plain(), Except: []error{unix.ESRCH}, Words: fmt.Sprintf("delete route %s of %q", r.Dst(), link),
	}
}
