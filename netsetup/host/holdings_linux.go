package host

import (
	"net"
	"slices"

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
// of them but lead elsewhere decide whether it goes first.
func (h *Holdings) addRoutes(all []rtnl.Route) {
	for i, r := range all {
		if !r.Uses(h.Index) || r.Automatic() {
			continue
		}
		ahead := slices.ContainsFunc(all[:i], r.TiedWith)
		behind := slices.ContainsFunc(all[i+1:], func(o rtnl.Route) bool { return r.TiedWith(o) && !o.Uses(h.Index) })
		h.Routes, h.First = append(h.Routes, r), append(h.First, !ahead && behind)
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
