package guard

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// OwnSet names the set of the IPv6 addresses that the guest may use, on a network with a prefix.
//
// A guest makes addresses that nobody knows before: private link-local ones, stable ones and
// temporary ones (RFC 7217, RFC 8981). It announces each by asking whether another machine has it
// (duplicate address detection, RFC 4862), and the guard lets it ask about those that no other
// machine has by right. The keeper, which sees it ask, puts the address into the set, unless
// another port has it (SAVI, RFC 6620). It does so, too, with an address by which the guest tries to
// discover neighbors: a guest that was saved and goes on does not ask again.
const OwnSet = "own6"

// MostLearned bounds the addresses besides Own that a guest may have at once. The oldest goes.
const MostLearned = 16

// Own are the addresses in OwnSet from the start: the link-local one of the MAC, and those that
// qnet gives.
func (p Port) Own() []netip.Addr {
	list := []netip.Addr{linkLocal(p.MAC)}
	for _, a := range p.Addresses6 {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// MayLearn reports whether a guest may have the address if no other one has it: a link-local
// one or one of the prefix, but none that qnet gives (those have bits 64 to 95 zero), none that a
// MAC makes (RFC 4291, appendix A), and not the router's.
func (p Port) MayLearn(a netip.Addr) bool {
	b := a.As16()
	given, ofMAC := [4]byte(b[8:12]) == [4]byte{}, b[11] == 0xff && b[12] == 0xfe
	switch {
	case !p.Prefix6.IsValid() || ofMAC || a == p.Router:
		return false
	case p.Prefix6.Contains(a):
		return !given
	}
	return local64.Contains(a) && !given
}

// local64 are the link-local addresses that hosts have (RFC 4291, section 2.5.6).
var local64 = netip.MustParsePrefix("fe80::/64")

// withPrefix is ip6 on a network with a prefix.
func (p Port) withPrefix() []nft.Rule {
	own := "@" + OwnSet
	asks := []nft.Match{nft.Is(nft.Protocol, "ip6"), nft.Is(nft.IP6Source, "::"), nft.Is(nft.Transport, "ipv6-icmp")}
	free := with(asks, nft.Is(nft.ICMPv6Type, "135"))
	advertises := []nft.Match{nft.Is(nft.Protocol, "ip6"), nft.Is(nft.Transport, "ipv6-icmp"), nft.Is(nft.ICMPv6Type, "136")}
	from := []nft.Match{nft.Is(nft.Protocol, "ip6"), nft.Is(nft.IP6Any, own)}
	rules := []nft.Rule{accept(with(free, nft.Is(nft.NDTarget, own))...)}
	for _, m := range []nft.Match{ // what MayLearn refuses
		nft.Is(nft.NDTargetMiddle, "0xfffe"), nft.Is(nft.NDTargetHigh, "0x00000000"), nft.Is(nft.NDTarget, nft.IP6Value(p.Router)),
	} {
		rules = append(rules, drop(ForeignTarget, with(free, m)...))
	}
	for _, prefix := range []netip.Prefix{local64, p.Prefix6} {
		rules = append(rules, accept(with(free, nft.Is(nft.NDTargetPrefix, nft.IP6Value(prefix.Addr())[:18]))...))
	}
	rules = append(rules,
		drop(ForeignTarget, free...),
		accept(with(from, append(advertises[1:], nft.Is(nft.NDTarget, own))...)...),
		drop(ForeignTarget, advertises...),
		accept(with(asks, nft.Is(nft.ICMPv6Type, "131", "132", "133", "143"))...), // as in ip6
	)
	return append(append(rules, whole(from...)...), drop(ForeignIP6))
}
