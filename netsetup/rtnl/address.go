package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Address is a Raw of RTM_NEWADDR.
type Address struct{ Raw }

// Lifetimes are struct ifa_cacheinfo's, in seconds.
type Lifetimes struct{ Preferred, Valid uint32 }

// Forever is a lifetime without end.
const Forever = 0xffffffff

func (a Address) Family() int { return int(a.Raw[0]) }

func (a Address) Bits() int { return int(a.Raw[1]) }

func (a Address) scope() byte { return a.Raw[3] }

func (a Address) index() int { return int(binary.NativeEndian.Uint32(a.Raw[4:])) }

// Local is the address itself; IFA_ADDRESS is the other end's on a link with a peer.
func (a Address) Local() netip.Addr {
	if l := a.Addr(AddrKind, unix.IFA_LOCAL); l.IsValid() {
		return l
	}
	return a.Addr(AddrKind, unix.IFA_ADDRESS)
}

func (a Address) Peer() (netip.Addr, bool) {
	p := a.Addr(AddrKind, unix.IFA_ADDRESS)
	return p, p.IsValid() && p != a.Local()
}

func (a Address) Prefix() netip.Prefix { return netip.PrefixFrom(a.Local(), a.Bits()) }

func (a Address) Flags() uint32 { return a.u32(AddrKind, unix.IFA_FLAGS) }

func (a Address) Lifetimes() Lifetimes {
	v := a.attr(AddrKind, unix.IFA_CACHEINFO)
	if len(v) < 8 {
		return Lifetimes{Forever, Forever}
	}
	l := Lifetimes{binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])}
	if a.Flags()&unix.IFA_F_DEPRECATED != 0 {
		l.Preferred = 0 // which the kernel lists as "forever" where the address is
	}
	return l
}

// Dynamic reports whether the address ends unless somebody renews it.
func (a Address) Dynamic() bool { return a.Lifetimes().Valid != Forever }

// Checked reports whether the kernel has found the IPv6 address to be nobody else's.
func (a Address) Checked() bool {
	return a.Family() == unix.AF_INET6 && a.Flags()&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// Temporary reports whether the kernel made the address to be used for a while.
func (a Address) Temporary() bool {
	return a.Family() == unix.AF_INET6 && a.Flags()&unix.IFA_F_TEMPORARY != 0
}

// Plain is the address without lifetimes, and without flags that come and go.
func (a Address) Plain() Raw {
	out := a.edited(AddrKind, func(at Attr) (Attr, bool) {
		if at.Kind == unix.IFA_FLAGS {
			at.Value = U32(a.Flags() &^ (unix.IFA_F_TENTATIVE | unix.IFA_F_DEPRECATED | unix.IFA_F_OPTIMISTIC))
		}
		return at, at.Kind != unix.IFA_CACHEINFO
	})
	out[2] = 0
	return out
}

func (a Address) Lasting(l Lifetimes) Address {
	return Address{a.edited(AddrKind, func(at Attr) (Attr, bool) {
		return at, at.Kind != unix.IFA_CACHEINFO
	}, Attr{unix.IFA_CACHEINFO, slices.Concat(U32(l.Preferred), U32(l.Valid), make([]byte, 8))})}
}

// Labelled is an IPv4 address's label on another link: what follows the link's
// name stays. was is asked where the name is too long for that.
func (a Address) Labelled(from, to string, was func(Address) string) string {
	label := a.Text(AddrKind, unix.IFA_LABEL)
	tail, ok := strings.CutPrefix(label, from)
	switch {
	case label == "" || a.Family() != unix.AF_INET:
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

// Settable are the flags that a program may give an address (inet6_rtm_newaddr).
const Settable = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// On is the address on another link, as the kernel takes it.
func (a Address) On(index int, label string, flags uint32) Address {
	out := Address{a.edited(AddrKind, func(at Attr) (Attr, bool) {
		switch at.Kind {
		case unix.IFA_FLAGS, unix.IFA_LABEL:
			return at, false
		case unix.IFA_CACHEINFO:
			l := a.Lifetimes()
			at.Value = slices.Concat(U32(l.Preferred), U32(l.Valid), make([]byte, 8))
		}
		return at, true
	}, Attr{unix.IFA_FLAGS, U32(flags)})}
	if label != "" {
		out.Raw = AppendAttr(out.Raw, Attr{unix.IFA_LABEL, append([]byte(label), 0)})
	}
	out.Raw[2] = 0 // the flags are in the attribute
	binary.NativeEndian.PutUint32(out.Raw[4:], uint32(index))
	return out
}
