package subnet

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sort"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// aggregate is the longest prefix, in bits, of a summary route: VPNs push 10.0.0.0/8 or two
// /1 routes, and use few of the addresses in them.
const aggregate = 8

// use is a prefix that something on the host uses: one of the other fields says what.
type use struct {
	prefix  netip.Prefix
	address netip.Prefix // with link
	link    string
	route   *host.Route
	rule    *fib.Rule
}

// String says what uses the prefix. A route is as ip-route(8) lists it.
func (u use) String() string {
	switch {
	case u.address.IsValid():
		return fmt.Sprintf("address %s on %s", u.address, u.link)
	case u.rule != nil && u.rule.To == u.prefix:
		return fmt.Sprintf("policy rule %d to %s", u.rule.Priority, u.prefix)
	case u.rule != nil:
		return fmt.Sprintf("policy rule %d from %s", u.rule.Priority, u.prefix)
	case u.route == nil:
		return fmt.Sprintf("nameserver %s of resolv.conf", u.prefix.Addr())
	}
	return "route " + u.route.Text()
}

// uses are the prefixes that something on the host already uses, as a subnet of so many bits
// meets them. The network's own bridge, which a crash may have left, does not count.
func uses(f host.Facts, bridge string, bits int) iter.Seq[use] {
	return func(yield func(use) bool) {
		_ = usesOfAddresses(f, bridge, yield) && usesOfRoutes(f, bridge, bits, yield) && usesOfRules(f, yield) && usesOfResolvers(f, yield)
	}
}

// usesOfAddresses also counts links that are down: they come up with the same addresses.
func usesOfAddresses(f host.Facts, bridge string, yield func(use) bool) bool {
	for _, l := range f.Links {
		for _, a := range l.Addresses {
			if l.Name != bridge && !yield(use{prefix: a.Masked(), address: a, link: l.Name}) {
				return false
			}
		}
	}
	return true
}

// usesOfRoutes leaves out routes that lead nowhere, such as "unreachable 192.168.0.0/16":
// nobody is behind them, and the bridge's own route is more specific. If it is not, the host
// would not reach the guests.
func usesOfRoutes(f host.Facts, bridge string, bits int, yield func(use) bool) bool {
	for i := range f.Routes {
		r := &f.Routes[i]
		if r.Nowhere && r.Dst.Bits() < bits || r.Link != "" && r.Link == bridge || r.Dst.Bits() <= aggregate {
			continue
		}
		if !yield(use{prefix: r.Dst, route: r}) {
			return false
		}
	}
	return true
}

// usesOfRules counts what policy rules select: their tables may get routes later.
func usesOfRules(f host.Facts, yield func(use) bool) bool {
	for i := range f.Rules {
		r := &f.Rules[i]
		for _, selected := range [...]netip.Prefix{r.From, r.To} {
			if selected.Bits() > aggregate && r.Protocol != fib.PinProtocol && !yield(use{prefix: selected, rule: r}) {
				return false
			}
		}
	}
	return true
}

func usesOfResolvers(f host.Facts, yield func(use) bool) bool {
	for _, a := range f.Resolvers {
		if !yield(use{prefix: netip.PrefixFrom(a, a.BitLen())}) {
			return false
		}
	}
	return true
}

// conflict says what on the host already uses a part of the prefix, "" if nothing does.
func conflict(p netip.Prefix, f host.Facts, bridge string) string {
	for u := range uses(f, bridge, p.Bits()) {
		if p.Overlaps(u.prefix) {
			return u.String()
		}
	}
	return ""
}

// Defined says which network that another program defined, and that may be down, has a part
// of the prefix, "" if none.
func Defined(p netip.Prefix, f host.Facts) string {
	for _, d := range f.Defined {
		if p.Overlaps(d.Prefix) {
			return d.By
		}
	}
	return ""
}

// taken are the IPv4 prefixes in use, sorted by address and without those inside others. A
// host may have hundreds of thousands of routes, and a choice asks about as many subnets.
type taken []netip.Prefix

// takenIn lists what is in use of some ranges.
func takenIn(ranges []netip.Prefix, f host.Facts, bridge string) taken {
	var list taken
	add := func(p netip.Prefix) {
		if slices.ContainsFunc(ranges, p.Overlaps) {
			list = append(list, p.Masked())
		}
	}
	for u := range uses(f, bridge, chosenBits) {
		add(u.prefix)
	}
	for _, d := range f.Defined {
		add(d.Prefix)
	}
	order.By(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	outer := list[:0]
	for _, p := range list {
		if n := len(outer); n == 0 || !outer[n-1].Contains(p.Addr()) {
			outer = append(outer, p)
		}
	}
	return outer
}

// overlaps reports whether a part of the prefix is in use. Of prefixes none of which lies
// in another, only the last that begins before p and the first that begins in it can.
func (t taken) overlaps(p netip.Prefix) bool {
	i := sort.Search(len(t), func(i int) bool { return t[i].Addr().Compare(p.Addr()) > 0 })
	return i > 0 && t[i-1].Overlaps(p) || i < len(t) && t[i].Overlaps(p)
}

// maxInTheWay bounds how many uses a refusal names.
const maxInTheWay = 4

// inTheWay names the widest uses of some ranges, in words.
func inTheWay(ranges []netip.Prefix, f host.Facts, bridge string) string {
	var list []use
	for u := range uses(f, bridge, chosenBits) {
		if slices.ContainsFunc(ranges, u.prefix.Overlaps) {
			list = append(list, u)
		}
	}
	order.By(list, func(a, b use) int { return cmp.Compare(a.prefix.Bits(), b.prefix.Bits()) })
	text := ""
	var named []netip.Prefix
	for i, u := range list {
		if slices.ContainsFunc(named, func(p netip.Prefix) bool { return p.Bits() <= u.prefix.Bits() && p.Overlaps(u.prefix) }) {
			continue // inside one that is named
		}
		if len(named) == maxInTheWay {
			return text + fmt.Sprintf(" and %d more", len(list)-i)
		}
		if named = append(named, u.prefix); text != "" {
			text += ", "
		}
		text += u.String()
	}
	return text
}
