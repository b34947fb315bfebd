package netsetup

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// route is a Raw of RTM_NEWROUTE.
type route struct{ Raw }

func (r route) family() int { return int(r.Raw[0]) }

func (r route) tos() byte { return r.Raw[3] }

func (r route) protocol() int { return int(r.Raw[5]) }

func (r route) scope() byte { return r.Raw[6] }

func (r route) class() byte { return r.Raw[7] } // rtm_type

func (r route) table() int {
	if t := r.u32(bodyKind, unix.RTA_TABLE); t != 0 {
		return int(t)
	}
	return int(r.Raw[4])
}

func (r route) dst() netip.Prefix {
	a := r.addr(bodyKind, unix.RTA_DST)
	if !a.IsValid() && r.family() == unix.AF_INET {
		a = netip.IPv4Unspecified()
	} else if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return netip.PrefixFrom(a, int(r.Raw[1]))
}

func (r route) gateway() netip.Addr {
	if v := r.attr(bodyKind, unix.RTA_VIA); len(v) > 2 { // struct rtvia: a gateway of the other family
		a, _ := netip.AddrFromSlice(v[2:])
		return a
	}
	return r.addr(bodyKind, unix.RTA_GATEWAY)
}

func (r route) metric() uint32 { return r.u32(bodyKind, unix.RTA_PRIORITY) }

// expires is after how many seconds the kernel drops the route, 0 for never.
// struct rta_cacheinfo counts in 1/100 s.
func (r route) expires() uint32 {
	v := r.attr(bodyKind, unix.RTA_CACHEINFO)
	if len(v) < 12 {
		return 0
	}
	ticks := int32(binary.NativeEndian.Uint32(v[8:]))
	return uint32(max(ticks, 0)+99) / 100
}

// hop is one nexthop of a multipath route, struct rtnexthop.
type hop struct {
	flags  byte
	weight byte // less one
	index  int
	attrs  []byte
}

const hopHeader = 8

func (r route) hops() []hop {
	b := r.attr(bodyKind, unix.RTA_MULTIPATH)
	var list []hop
	for len(b) >= hopHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < hopHeader || n > len(b) {
			break
		}
		list = append(list, hop{b[2], b[3], int(binary.NativeEndian.Uint32(b[4:])), b[hopHeader:n]})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func multipath(hops []hop) attr {
	var b []byte
	for _, h := range hops {
		b = binary.NativeEndian.AppendUint16(b, uint16(hopHeader+len(h.attrs)))
		b = append(b, h.flags, h.weight)
		b = append(b, u32(uint32(h.index))...)
		b = append(b, h.attrs...)
		b = append(b, make([]byte, align4(len(h.attrs))-len(h.attrs))...)
	}
	return attr{unix.RTA_MULTIPATH, b}
}

// uses reports whether the route leaves by the link with that index.
func (r route) uses(index int) bool {
	if int(r.u32(bodyKind, unix.RTA_OIF)) == index {
		return true
	}
	return slices.ContainsFunc(r.hops(), func(h hop) bool { return h.index == index })
}

// automatic reports whether the kernel makes the route with an address or a link.
func (r route) automatic() bool {
	return r.protocol() == unix.RTPROT_KERNEL && r.table() == unix.RT_TABLE_LOCAL
}

// tied reports whether two routes are alike but for where they lead to, so that
// the order in which they were added decides.
func (r route) tied(o route) bool {
	return r.table() == o.table() && r.dst() == o.dst() && r.tos() == o.tos() && r.metric() == o.metric()
}

// over is the route by another link, as the kernel takes it.
func (r route) over(from, to int) route {
	out := route{r.edited(bodyKind, func(a attr) (attr, bool) {
		switch a.kind {
		case unix.RTA_CACHEINFO:
			return a, false
		case unix.RTA_OIF:
			if int(binary.NativeEndian.Uint32(a.value)) == from {
				a.value = u32(uint32(to))
			}
		case unix.RTA_MULTIPATH:
			hops := r.hops()
			for i := range hops {
				hops[i].flags &= unix.RTNH_F_ONLINK
				if hops[i].index == from {
					hops[i].index = to
				}
			}
			return multipath(hops), true
		}
		return a, true
	})}
	if s := r.expires(); s != 0 {
		out.Raw = appendAttr(out.Raw, attr{unix.RTA_EXPIRES, u32(s)})
	}
	// Whether the link is down or dead is the kernel's to find out.
	binary.NativeEndian.PutUint32(out.Raw[8:], binary.NativeEndian.Uint32(r.Raw[8:])&unix.RTNH_F_ONLINK)
	return out
}

// plain is the route without what passes: lifetimes and the kernel's own notes.
func (r route) plain() Raw {
	out := r.over(0, 0)
	return out.edited(bodyKind, func(a attr) (attr, bool) { return a, a.kind != unix.RTA_EXPIRES })
}

func (r route) same(o route) bool { return bytes.Equal(r.plain(), o.plain()) }

// replaces reports whether the kernel takes the route in the place of the like
// one: an IPv6 route by a gateway would else become one more path of it.
func (r route) replaces() bool {
	return r.family() == unix.AF_INET6 && (r.gateway().IsValid() || len(r.hops()) > 0)
}

// rtaNHID is RTA_NH_ID (linux/rtnetlink.h): a nexthop object.
const rtaNHID = 30

// strange reports whether the route cannot be told in words or moved alone.
func (r route) strange() bool {
	nested := slices.ContainsFunc(r.hops(), func(h hop) bool {
		return slices.ContainsFunc(attrs(h.attrs), func(a attr) bool { return a.kind == unix.RTA_ENCAP })
	})
	return nested || r.attr(bodyKind, unix.RTA_ENCAP) != nil || r.attr(bodyKind, rtaNHID) != nil
}

// withMetric is the route with another metric, as the kernel takes it.
func (r route) withMetric(metric uint32) route {
	out := r.over(0, 0)
	return route{out.edited(bodyKind, func(a attr) (attr, bool) { return a, a.kind != unix.RTA_PRIORITY }, attr{unix.RTA_PRIORITY, u32(metric)})}
}

// alike reports whether two routes are the same, in whatever order they are told.
func (r route) alike(o route) bool { return bytes.Equal(r.ordered(), o.ordered()) }

func (r route) ordered() Raw {
	plain := r.plain()
	list := plain.attrs(bodyKind)
	slices.SortStableFunc(list, func(a, b attr) int { return int(a.kind) - int(b.kind) })
	out := slices.Clone(plain[:bodyKind])
	for _, a := range list {
		out = appendAttr(out, a)
	}
	return out
}

// prefShift is where the flags of an IPv6 route hold its preference
// (RTF_PREF in linux/ipv6_route.h).
const prefShift = 27

// preference is the route's, RFC 4191, as a flag.
func (r route) preference() uint32 {
	v := r.attr(bodyKind, unix.RTA_PREF)
	if len(v) == 0 {
		return 0
	}
	return uint32(v[0]&3) << prefShift
}
