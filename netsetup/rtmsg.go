package netsetup

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Raw is an rtnetlink(7) message, without its nlmsghdr, as the kernel listed it. An
// address or a route is kept so because it can be sent back with all that it
// holds, known to us or not.
type Raw []byte

// kind tells what a Raw is; its value is the length of the fixed header.
type kind int

// The headers: struct ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr.
const (
	addrKind kind = 8
	bodyKind kind = 12 // routes, neighbours and rules
)

// attr is an attribute, struct rtattr.
type attr struct {
	kind  uint16
	value []byte
}

const attrHeader = 4

func align4(n int) int { return (n + 3) &^ 3 }

// attrs reads attributes; what is cut off ends the list.
func attrs(b []byte) []attr {
	var list []attr
	for len(b) >= attrHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeader || n > len(b) {
			break
		}
		// The upper bits tell of nesting and byte order.
		list = append(list, attr{binary.NativeEndian.Uint16(b[2:]) & 0x3fff, b[attrHeader:n]})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func appendAttr(b []byte, a attr) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(a.value)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	b = append(b, a.value...)
	return append(b, make([]byte, align4(len(a.value))-len(a.value))...)
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func (r Raw) attrs(k kind) []attr { return attrs(r[min(int(k), len(r)):]) }

// attr finds an attribute's value, nil if there is none.
func (r Raw) attr(k kind, which uint16) []byte {
	for _, a := range r.attrs(k) {
		if a.kind == which {
			return a.value
		}
	}
	return nil
}

func (r Raw) u32(k kind, which uint16) uint32 {
	v := r.attr(k, which)
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

func (r Raw) addr(k kind, which uint16) netip.Addr {
	a, _ := netip.AddrFromSlice(r.attr(k, which))
	return a
}

// text is a string attribute's, without its zero byte.
func (r Raw) text(k kind, which uint16) string {
	return strings.TrimRight(string(r.attr(k, which)), "\x00")
}

// edited is a copy in which edit has had each attribute: it returns what to
// put in its place, and false to leave it out.
func (r Raw) edited(k kind, edit func(attr) (attr, bool), more ...attr) Raw {
	out := slices.Clone(r[:k])
	for _, a := range r.attrs(k) {
		if a, ok := edit(a); ok {
			out = appendAttr(out, a)
		}
	}
	for _, a := range more {
		out = appendAttr(out, a)
	}
	return out
}

// address is a Raw of RTM_NEWADDR.
type address struct{ Raw }

// lifetimes are struct ifa_cacheinfo's, in seconds.
type lifetimes struct{ preferred, valid uint32 }

// forever is a lifetime without end.
const forever = 0xffffffff

func (a address) family() int { return int(a.Raw[0]) }
func (a address) bits() int   { return int(a.Raw[1]) }
func (a address) scope() byte { return a.Raw[3] }
func (a address) index() int  { return int(binary.NativeEndian.Uint32(a.Raw[4:])) }

// local is the address itself; IFA_ADDRESS is the other end's on a link with a peer.
func (a address) local() netip.Addr {
	if l := a.addr(addrKind, unix.IFA_LOCAL); l.IsValid() {
		return l
	}
	return a.addr(addrKind, unix.IFA_ADDRESS)
}

func (a address) peer() (netip.Addr, bool) {
	p := a.addr(addrKind, unix.IFA_ADDRESS)
	return p, p.IsValid() && p != a.local()
}

func (a address) prefix() netip.Prefix { return netip.PrefixFrom(a.local(), a.bits()) }

func (a address) flags() uint32 { return a.u32(addrKind, unix.IFA_FLAGS) }

func (a address) lifetimes() lifetimes {
	v := a.attr(addrKind, unix.IFA_CACHEINFO)
	if len(v) < 8 {
		return lifetimes{forever, forever}
	}
	l := lifetimes{binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])}
	if a.flags()&unix.IFA_F_DEPRECATED != 0 {
		l.preferred = 0 // which the kernel lists as "forever" where the address is
	}
	return l
}

// dynamic reports whether the address ends unless somebody renews it.
func (a address) dynamic() bool { return a.lifetimes().valid != forever }

// route is a Raw of RTM_NEWROUTE.
type route struct{ Raw }

func (r route) family() int   { return int(r.Raw[0]) }
func (r route) tos() byte     { return r.Raw[3] }
func (r route) protocol() int { return int(r.Raw[5]) }
func (r route) scope() byte   { return r.Raw[6] }
func (r route) class() byte   { return r.Raw[7] } // rtm_type

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
