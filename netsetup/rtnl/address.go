package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Address is a message of RTM_NEWADDR: an address of a link.
type Address struct{ Message }

// Lifetimes are those of struct ifa_cacheinfo, in seconds from now; [Forever] is no end.
type Lifetimes struct{ Preferred, Valid uint32 }

// Forever is a lifetime without end (INFINITY_LIFE_TIME in linux/addrconf.h).
const Forever = 0xffffffff

// Family returns AF_INET or AF_INET6.
func (a Address) Family() int { return int(a.Message[0]) }

// Bits returns the length of the prefix, 0 to 32 or 128.
func (a Address) Bits() int { return int(a.Message[1]) }

func (a Address) scope() byte { return a.Message[3] }

func (a Address) link() int { return int(binary.NativeEndian.Uint32(a.Message[4:])) }

// Local returns the host's address. On a link with a peer, IFA_ADDRESS is the peer's.
func (a Address) Local() netip.Addr {
	if l := a.addr(addressHeader, unix.IFA_LOCAL); l.IsValid() {
		return l
	}
	return a.addr(addressHeader, unix.IFA_ADDRESS)
}

// Peer returns the address of the other end of a point-to-point link, false without one.
func (a Address) Peer() (netip.Addr, bool) {
	p := a.addr(addressHeader, unix.IFA_ADDRESS)
	return p, p.IsValid() && p != a.Local()
}

// Prefix returns the host's address with the length of its prefix.
func (a Address) Prefix() netip.Prefix { return netip.PrefixFrom(a.Local(), a.Bits()) }

// Label returns an IPv4 address's label, such as "eth0:1", "" without one.
func (a Address) Label() string { return text(a.attr(addressHeader, unix.IFA_LABEL)) }

// Flags returns the IFA_F_ flags (linux/if_addr.h).
func (a Address) Flags() uint32 { return a.uint32(addressHeader, unix.IFA_FLAGS) }

// settable are the flags that a program may give an address (inet6_rtm_newaddr).
const settable = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// SettableFlags returns the flags that a program may give an address. The kernel alone
// sets the others.
func (a Address) SettableFlags() uint32 { return a.Flags() & settable }

// UsableFlags returns the flags with which the address is usable at once on another link.
// An IPv6 address that passed duplicate address detection is not checked again, and makes
// no temporary addresses yet.
func (a Address) UsableFlags() uint32 {
	if a.PassedDAD() {
		return a.SettableFlags()&^unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NODAD
	}
	return a.SettableFlags()
}

// Lifetimes returns how long the address is preferred and valid.
func (a Address) Lifetimes() Lifetimes {
	v := a.attr(addressHeader, unix.IFA_CACHEINFO)
	if len(v) < 8 {
		return Lifetimes{Forever, Forever}
	}
	l := Lifetimes{binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])}
	if a.Flags()&unix.IFA_F_DEPRECATED != 0 {
		l.Preferred = 0 // the kernel lists "forever" where the address is valid for ever
	}
	return l
}

// Dynamic reports whether the address ends unless a program or a router renews it.
func (a Address) Dynamic() bool { return a.Lifetimes().Valid != Forever }

// PassedDAD reports whether this is an IPv6 address for which the kernel has found no
// duplicate on the link (RFC 4862, 5.4).
func (a Address) PassedDAD() bool {
	return a.Family() == unix.AF_INET6 && a.Flags()&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// Temporary reports whether this is a temporary IPv6 address of the kernel's (RFC 8981).
func (a Address) Temporary() bool {
	return a.Family() == unix.AF_INET6 && a.Flags()&unix.IFA_F_TEMPORARY != 0
}

// Same reports whether two addresses differ in nothing but lifetimes and the flags that
// come and go.
func (a Address) Same(o Address) bool { return slices.Equal(a.plain(), o.plain()) }

func (a Address) plain() Message {
	out := a.edited(addressHeader, func(at Attr) (Attr, bool) {
		if at.Type == unix.IFA_FLAGS {
			at = Uint32(at.Type, a.Flags()&^(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_OPTIMISTIC))
		}
		return at, at.Type != unix.IFA_CACHEINFO
	})
	out[2] = 0 // ifa_flags, the lower byte of IFA_FLAGS
	return out
}

// WithLifetimes returns the address with other lifetimes.
func (a Address) WithLifetimes(l Lifetimes) Address {
	return Address{a.edited(addressHeader, func(at Attr) (Attr, bool) {
		return at, at.Type != unix.IFA_CACHEINFO
	}, cacheInfo(l))}
}

func cacheInfo(l Lifetimes) Attr {
	return Attr{unix.IFA_CACHEINFO, slices.Concat(nativeUint32(l.Preferred), nativeUint32(l.Valid), make([]byte, 8))}
}

// LabelOn returns the label of an IPv4 address that moves from one link to another. A
// label that begins with the old link's name begins with the new one's; any other label
// stays. "eth0" and no more, which is every address's label without one of its own, may be
// what is left of a label too long for the link: original, if not nil, returns that.
func (a Address) LabelOn(from, to string, original func(Address) string) string {
	label := a.Label()
	tail, ok := strings.CutPrefix(label, from)
	switch {
	case label == "" || a.Family() != unix.AF_INET:
		return ""
	case !ok || tail != "" && tail[0] != ':':
		return label // an administrator's own
	case tail == "" && original != nil && original(a) != "":
		return original(a)
	case len(to+tail) >= unix.IFNAMSIZ:
		return to
	}
	return to + tail
}

// On returns the address on the link with that index, with a label and flags, as the
// kernel takes it.
func (a Address) On(link int, label string, flags uint32) Address {
	out := a.edited(addressHeader, func(at Attr) (Attr, bool) {
		switch at.Type {
		case unix.IFA_FLAGS, unix.IFA_LABEL:
			return at, false
		case unix.IFA_CACHEINFO:
			return cacheInfo(a.Lifetimes()), true
		}
		return at, true
	}, Uint32(unix.IFA_FLAGS, flags))
	if label != "" {
		out = Append(out, String(unix.IFA_LABEL, label))
	}
	out[2] = 0 // the flags are in the attribute
	binary.NativeEndian.PutUint32(out[4:], uint32(link))
	return Address{out}
}
