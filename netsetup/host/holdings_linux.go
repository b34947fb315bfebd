package host

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadHoldings reads what the host has by a link; nothing where the link's index is 0.
//
//	ip addr show dev LINK; ip route show table all dev LINK; ip neigh show dev LINK; ip rule
func ReadHoldings(c *rtnl.Conn, l Link) (Holdings, error) {
	h := Holdings{Index: l.Index, Since: BootSeconds()}
	if l.Index == 0 {
		return h, nil
	}
	var err error
	if h.Addrs, err = c.Addresses(l.Index); err != nil {
		return h, err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := c.Routes(family)
		if err != nil {
			return h, err
		}
		h.addRoutes(routes)
		neighbors, err := c.Neighbors(family)
		if err != nil {
			return h, err
		}
		for _, n := range neighbors {
			if n.Link() == l.Index && n.Known() {
				h.Neighs = append(h.Neighs, n)
			}
		}
		rules, err := c.Rules(family)
		if err != nil {
			return h, err
		}
		for _, r := range rules {
			if r.Names(l.Name) {
				h.Rules = append(h.Rules, r)
			}
		}
	}
	h.nameHops()
	return h, nil
}

// addRoutes adds, of all routes of a family, those by the link. Routes that tie with one
// of them but lead elsewhere decide whether it goes first: none is ahead of it, and one is
// behind. Of IPv6 only one of those that tie goes first: the kernel makes the others paths of
// one route.
func (h *Holdings) addRoutes(all []rtnl.Route) {
	last := map[rtnl.Tie]int{} // place of the last route that leads elsewhere
	for i, r := range all {
		if !r.Uses(h.Index) {
			last[r.Tie()] = i
		}
	}
	ahead := map[rtnl.Tie]bool{}
	for i, r := range all {
		own, tie := r.Uses(h.Index), r.Tie()
		if own && !r.Automatic() {
			behind, ok := last[tie]
			h.Routes, h.First = append(h.Routes, r), append(h.First, !ahead[tie] && ok && behind > i)
		}
		if !own || r.Family() == unix.AF_INET6 {
			ahead[tie] = true
		}
	}
}

// nameHops notes the names of the other links that multipath routes lead to.
func (h *Holdings) nameHops() {
	for _, r := range h.Routes {
		for _, hop := range r.Hops() {
			l, err := net.InterfaceByIndex(hop.Link)
			if err != nil || hop.Link == h.Index {
				continue
			}
			if h.Names == nil {
				h.Names = map[int]string{}
			}
			h.Names[hop.Link] = l.Name
		}
	}
}

// BootSeconds returns the time since boot, with suspension, in seconds (CLOCK_BOOTTIME).
func BootSeconds() int64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) //nolint:errcheck // it has no way to fail
	return now.Sec
}
