package netsetup

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// address is a Raw of RTM_NEWADDR.
type address struct{ Raw }

// lifetimes are struct ifa_cacheinfo's, in seconds.
type lifetimes struct{ preferred, valid uint32 }

// forever is a lifetime without end.
const forever = 0xffffffff

func (a address) family() int { return int(a.Raw[0]) }

func (a address) bits() int { return int(a.Raw[1]) }

func (a address) scope() byte { return a.Raw[3] }

func (a address) index() int { return int(binary.NativeEndian.Uint32(a.Raw[4:])) }

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

// checked reports whether the kernel has found the IPv6 address to be nobody else's.
func (a address) checked() bool {
	return a.family() == unix.AF_INET6 && a.flags()&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// temporary reports whether the kernel made the address to be used for a while.
func (a address) temporary() bool {
	return a.family() == unix.AF_INET6 && a.flags()&unix.IFA_F_TEMPORARY != 0
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
	case len(to+tail) >= unix.IFNAMSIZ:
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
