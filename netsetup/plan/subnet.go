package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// avoided are prefixes that a plan never chooses, because many hosts get them later: the
// defaults of home routers, OpenVPN and Kubernetes.
var avoided = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/16"),
	netip.MustParsePrefix("10.8.0.0/24"),
	netip.MustParsePrefix("10.10.10.0/24"),
	netip.MustParsePrefix("10.96.0.0/12"),
	netip.MustParsePrefix("10.244.0.0/16"),
}

// aggregate is the longest prefix, in bits, of a summary route: VPNs push 10.0.0.0/8 or two
// /1 routes, and use few of the addresses in them.
const aggregate = 8

// conflict says what on the host already uses a part of the prefix, "" if nothing does. The
// network's own bridge, which a crash may have left, does not count.
func conflict(p netip.Prefix, f host.Facts, bridge string) string {
	for _, used := range []string{
		usedByAddress(p, f.Links, bridge), usedByRoute(p, f.Routes, bridge), usedByRule(p, f.Rules), usedByResolver(p, f.Resolvers),
	} {
		if used != "" {
			return used
		}
	}
	return ""
}

func usedByAddress(p netip.Prefix, links []host.Link, bridge string) string {
	for _, l := range links {
		for _, a := range l.Addresses {
			if l.Name != bridge && p.Overlaps(a.Masked()) {
				return fmt.Sprintf("address %s of %s", a, l.Name)
			}
		}
	}
	return ""
}

func usedByRoute(p netip.Prefix, routes []host.Route, bridge string) string {
	for _, r := range routes {
		if (r.Link == "" || r.Link != bridge) && r.Dst.Bits() > aggregate && p.Overlaps(r.Dst) {
			return fmt.Sprintf("route %s dev %s table %d", r.Dst, r.Link, r.Table)
		}
	}
	return ""
}

// usedByRule looks for policy rules: their tables may get routes later.
func usedByRule(p netip.Prefix, rules []host.FIBRule) string {
	for _, r := range rules {
		for _, selected := range []netip.Prefix{r.From, r.To} {
			if selected.Bits() > aggregate && p.Overlaps(selected) && r.Protocol != host.PinProtocol {
				return fmt.Sprintf("policy rule %d for %s", r.Priority, selected)
			}
		}
	}
	return ""
}

func usedByResolver(p netip.Prefix, resolvers []netip.Addr) string {
	for _, a := range resolvers {
		if p.Contains(a) {
			return fmt.Sprintf("nameserver %s of resolv.conf", a)
		}
	}
	return ""
}

// defined says which network that another program defined, and that may be down, has a part
// of the prefix, "" if none.
func defined(p netip.Prefix, f host.Facts) string {
	for _, d := range f.Defined {
		if p.Overlaps(d.Prefix) {
			return d.By
		}
	}
	return ""
}

// subnet returns the subnet that the profile pins, if it is free, or chooses one.
func subnet(n Network, bridge string, f host.Facts, o Options) (netip.Prefix, error) {
	if !n.Subnet.IsValid() {
		return chooseSubnet(n, bridge, f, o)
	}
	if c := conflict(n.Subnet, f, bridge); c != "" {
		return netip.Prefix{}, n.refuse("subnet %s overlaps the host's %s: choose another, or leave subnet out", n.Subnet, c)
	}
	return n.Subnet, nil
}

// chooseSubnet returns the remembered subnet if it is still free, else the first free one of
// a sequence that depends on the host's salt and the network's name.
func chooseSubnet(n Network, bridge string, f host.Facts, o Options) (netip.Prefix, error) {
	if o.Remembered.IsValid() && conflict(o.Remembered, f, bridge) == "" {
		return o.Remembered, nil
	}
	for i := range uint32(4096) {
		p := candidate(o.Salt, n.Name, i)
		if isAvoided(p) || defined(p, f) != "" || conflict(p, f, bridge) != "" {
			continue
		}
		return p, nil
	}
	return netip.Prefix{}, n.refuse("4096 prefixes of 10.0.0.0/8 are all in use: pin a subnet outside of it with [network.%s] subnet", n.Name)
}

// candidate is the i-th prefix of the network's sequence, a /24 of 10.0.0.0/8.
func candidate(salt []byte, network string, i uint32) netip.Prefix {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte("\x00subnet\x00" + network + "\x00"))
	h.Write(binary.BigEndian.AppendUint32(nil, i))
	sum := h.Sum(nil)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, sum[0], sum[1], 0}), 24)
}

func isAvoided(p netip.Prefix) bool {
	return slices.ContainsFunc(avoided, p.Overlaps)
}

// Gateway is the host's address in a subnet: the first that a host may have.
func Gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// Usable reports whether a guest may have the address: it is in the subnet, and is neither
// its network address, its gateway nor its broadcast address.
func Usable(p netip.Prefix, a netip.Addr) bool {
	p = p.Masked()
	return p.Contains(a) && a != p.Addr() && a != Gateway(p) && p.Contains(a.Next())
}
