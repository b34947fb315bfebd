package egress

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Sets of a port's inet table, of a guest without LAN.
const (
	lan4 = "lan4"
	lan6 = "lan6"
)

// local are prefixes that lead to no machine of the Internet (IANA's registries of special-purpose
// addresses), but for those of documentation, which lead nowhere.
var local = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
	"::/32",          // unspecified, loopback, and those that hold an IPv4 address
	"64:ff9b:1::/48", // a translator of the local network (RFC 8215)
	"100::/64", "2001::/32", "2002::/16", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

// translated are those of IPv4 behind a translator of the Internet's (RFC 6052).
var translated = translate(local)

// Global reports whether the address is one of the Internet's.
func Global(a netip.Addr) bool {
	a = a.Unmap()
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	return a.IsValid() && !slices.ContainsFunc(local, in) && !slices.ContainsFunc(translated, in)
}

// LANSets are the sets of a guest without LAN: what is not the Internet's, and what the host reaches
// without a gateway.
func LANSets(onLink []netip.Prefix) []nft.Set {
	four, six := nft.Set{Name: lan4, Of: nft.IP}, nft.Set{Name: lan6, Of: nft.IP6}
	for _, p := range merge(slices.Concat(local, translated, onLink)) {
		if p.Addr().Is4() {
			four.Prefixes = append(four.Prefixes, p)
		} else {
			six.Prefixes = append(six.Prefixes, p)
		}
	}
	return []nft.Set{four, six}
}

// HasLANSets reports whether the table is that of a guest without LAN.
func HasLANSets(t nft.Table) bool {
	return slices.ContainsFunc(t.Sets, func(s nft.Set) bool { return s.Name == lan4 })
}

func (p Port) sets() []nft.Set {
	var sets []nft.Set
	if p.Policy.NoLAN {
		sets = LANSets(p.OnLink)
	}
	return append(sets, p.listSets()...)
}

// merge sorts the prefixes, and leaves out those that another one contains: the kernel's ranges
// may not overlap.
func merge(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	for i, p := range list {
		list[i] = netip.PrefixFrom(p.Addr().WithZone(""), p.Bits()).Masked()
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	var kept []netip.Prefix
	for _, p := range list {
		if n := len(kept); n == 0 || !kept[n-1].Contains(p.Addr()) || kept[n-1].Bits() > p.Bits() {
			kept = append(kept, p)
		}
	}
	return kept
}

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, p := range list {
		parsed[i] = netip.MustParsePrefix(p)
	}
	return parsed
}

// translate returns the prefixes of IPv4 within 64:ff9b::/96.
func translate(list []netip.Prefix) []netip.Prefix {
	var made []netip.Prefix
	for _, p := range list {
		if p.Addr().Is4() {
			four := p.Addr().As4()
			b := [16]byte{0, 0x64, 0xff, 0x9b}
			copy(b[12:], four[:])
			made = append(made, netip.PrefixFrom(netip.AddrFrom16(b), 96+p.Bits()))
		}
	}
	return made
}
