package profiles

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/profiles/strict"
)

// subnet6Bits is the length of a network's IPv6 prefix: guests make addresses of their own in
// it, which needs /64 (RFC 4862, section 5.5.3).
const subnet6Bits = 64

// uniqueLocal are the IPv6 prefixes that anyone may choose (RFC 4193, section 3.1).
var uniqueLocal = netip.MustParsePrefix("fd00::/8")

// ValidSubnet6 reports whether a network may have the IPv6 prefix: unique local (RFC 4193),
// of 64 bits.
func ValidSubnet6(p netip.Prefix) bool {
	return p.Bits() == subnet6Bits && p == p.Masked() && uniqueLocal.Contains(p.Addr())
}

// ValidAddress6 reports whether qnet may give a guest the address of a network's IPv6 prefix:
// one whose bits 64 to 95 are zero, so that it differs from those that guests choose
// themselves, and neither the prefix's first nor its second, the host's.
func ValidAddress6(p netip.Prefix, a netip.Addr) bool {
	first := p.Masked().Addr()
	return netip.PrefixFrom(first, 96).Contains(a) && a != first && a != first.Next()
}

// noIPv6 says why networks of a mode have no IPv6 of qnet's.
func noIPv6(mode Mode) string {
	switch mode {
	case Private:
		return "mode private has no host in it to tell guests of a prefix: they have link-local addresses by themselves"
	case Bridge:
		return "guests of mode bridge have the IPv6 of the host's LAN"
	}
	return fmt.Sprintf("mode %s is on no network of qnet's", mode)
}

func (d *decoder) ipv6(key, s string, mode Mode) bool {
	if s == "" {
		return false
	}
	if !mode.HasSubnet() {
		d.Fail(key, "got %s, but %s; allowed in: host-only, nat", strict.Quote(s), noIPv6(mode))
	}
	return true
}

func (d *decoder) subnet6(key, s string, n Network) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case !n.IPv6:
		d.Fail(key, "got %s, but network %q has no IPv6; allowed beside ipv6 = \"auto\"", strict.Quote(s), n.Name)
	case err != nil || !p.Addr().Is6() || p.Addr().Is4In6():
		d.Fail(key, "got %s, allowed: an IPv6 prefix like fd12:3456:789a:1::/64", strict.Quote(s))
	case p.Bits() != subnet6Bits:
		d.Fail(key, "got %s, allowed: /%d, in which guests make addresses of their own (RFC 4862)", strict.Quote(s), subnet6Bits)
	case p != p.Masked():
		d.Fail(key, "got %s, whose host bits are set; allowed: %s", strict.Quote(s), p.Masked())
	case !uniqueLocal.Contains(p.Addr()):
		d.Fail(key, "got %s, allowed: inside %s (RFC 4193)", strict.Quote(s), uniqueLocal)
	default:
		return p
	}
	return netip.Prefix{}
}

func (d *decoder) address6(key, s string, mode Mode) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	if !mode.HasSubnet() {
		d.Fail(key, "got %s, but %s; allowed in: host-only, nat", strict.Quote(s), noIPv6(mode))
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		d.Fail(key, "got %s, allowed: an IPv6 address like fd12:3456:789a:1::10", strict.Quote(s))
		return netip.Addr{}
	}
	return a
}

// addresses6 checks the NICs' IPv6 addresses against their networks' prefixes and each other.
func (d *decoder) addresses6(p *Profile) {
	taken := map[netip.Addr]int{}
	for i, n := range p.NICs {
		if !n.Address6.IsValid() {
			continue
		}
		key := fmt.Sprintf("nic[%d].address6", i)
		d.takenOnce(taken, key, n.Address6, i)
		network := p.Networks[n.Network]
		switch {
		case !network.Subnet6.IsValid():
			if !d.Has("network." + n.Network + ".subnet6") {
				d.Fail(key, "got %s, but the IPv6 prefix is not pinned; add [network.%s] with ipv6 = \"auto\" and subnet6 = ...", n.Address6, n.Network)
			}
		case !ValidAddress6(network.Subnet6, n.Address6):
			first := network.Subnet6.Addr()
			d.Fail(key, "got %s, allowed: %s to %sffff:ffff; the others are the host's, or guests choose them", n.Address6, first.Next().Next(), first)
		}
	}
}
