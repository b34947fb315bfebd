// Package onlink reads which networks the host reaches without a gateway.
package onlink

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Read returns the prefixes of both families that the host reaches without a gateway: those of its
// addresses, and of routes by links to Ethernets. Other routes by tunnels do not count: those of a
// VPN that takes everything but private addresses are the way to the Internet. It needs no rights,
// and may be called concurrently.
//
//	ip route show table all; ip -6 route show table all
func Read() ([]netip.Prefix, error) {
	links, err := host.ReadLinks()
	if err != nil {
		return nil, err
	}
	ethernet := map[int]bool{}
	for _, l := range links {
		ethernet[l.Index] = l.Ethernet
	}
	var found []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := dump.Whole(func() (list []netip.Prefix, err error) {
			err = rtnl.WalkRoutes(family, func(r rtnl.Route) {
				if leadsOnLink(r, ethernet) {
					list = append(list, r.Dst().Masked())
				}
			})
			return list, err
		})
		if err != nil {
			return nil, err
		}
		found = append(found, routes...)
	}
	return found, nil
}

// shortest is the least length, in bits, of a prefix that is no way to the Internet: a default
// route, or the halves and quarters of one that VPNs use.
func shortest(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 8
	}
	return 16
}

// leadsOnLink reports whether the route leads to machines on one of the links, without a gateway.
// The kernel's own routes are those of addresses.
func leadsOnLink(r rtnl.Route, links map[int]bool) bool {
	if r.Type() != unix.RTN_UNICAST || r.Table() == unix.RT_TABLE_LOCAL || r.Dst().Bits() < shortest(r.Dst()) {
		return false
	}
	if !r.Gateway().IsValid() && (links[r.Link()] || r.Protocol() == unix.RTPROT_KERNEL) {
		return true
	}
	for _, h := range r.Hops() {
		if !h.Gateway.IsValid() && links[h.Link] {
			return true
		}
	}
	return false
}
