package nft

import (
	"slices"

	"golang.org/x/sys/unix"
)

// numbers has the kernel's numbers of the families: NFPROTO_* of linux/netfilter.h.
var numbers = map[Family]byte{
	IP: unix.NFPROTO_IPV4, IP6: unix.NFPROTO_IPV6, INet: unix.NFPROTO_INET,
	ARP: unix.NFPROTO_ARP, Bridge: unix.NFPROTO_BRIDGE, NetDev: unix.NFPROTO_NETDEV,
}

// NumberOf returns the family's number.
func NumberOf(f Family) byte { return numbers[f] }

// FamilyOf returns the family with that number, "" if there is none.
func FamilyOf(number byte) Family {
	for f, n := range numbers {
		if n == number {
			return f
		}
	}
	return ""
}

// hooks returns a family's hooks by their numbers: NF_INET_*, also for the bridge family,
// NF_ARP_* and NF_NETDEV_* (linux/netfilter.h, netfilter_arp.h).
func hooks(f Family) []Hook {
	switch f {
	case ARP:
		return []Hook{Input, Output}
	case NetDev:
		return []Hook{Ingress, Egress}
	}
	return []Hook{Prerouting, Input, Forward, Output, Postrouting, Ingress}
}

// HookOf returns the hook with that number in a family, "" if there is none.
func HookOf(f Family, number uint32) Hook {
	if of := hooks(f); number < uint32(len(of)) {
		return of[number]
	}
	return ""
}

// number returns the hook's number in a family.
func (h Hook) number(f Family) uint32 { return uint32(slices.Index(hooks(f), h)) }
