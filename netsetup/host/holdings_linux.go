package host

import (
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
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
		if err := h.addRoutes(family); err != nil {
			return h, err
		}
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

// addRoutes adds the family's routes by the link.
func (h *Holdings) addRoutes(family int) error {
	found, err := dump.Whole(func() (Holdings, error) {
		g := gathering{Holdings: Holdings{Index: h.Index}}
		err := rtnl.WalkRoutes(family, g.add)
		g.addTied()
		return g.Holdings, err
	})
	h.Routes, h.First = append(h.Routes, found.Routes...), append(h.First, found.First...)
	return err
}

// gathering finds the routes by the link of the holdings among all routes, of which it keeps
// no others; the kernel lists those that tie one after the other. Routes that tie with one by
// the link but lead elsewhere decide whether that goes first: none is ahead of it, and one is
// behind. Of IPv6 only one of those that tie goes first: the kernel makes the others paths of
// one route.
type gathering struct {
	Holdings
	tied []rtnl.Route // copies
	n    int          // of tied, in use
}

func (g *gathering) add(r rtnl.Route) {
	if g.n > 0 && r.Tie() != g.tied[0].Tie() {
		g.addTied()
	}
	if g.n == len(g.tied) {
		g.tied = append(g.tied, rtnl.Route{})
	}
	g.tied[g.n].Message = append(g.tied[g.n].Message[:0], r.Message...)
	g.n++
}

// addTied adds, of the routes that tie, those by the link.
func (g *gathering) addTied() {
	all, ahead := g.tied[:g.n], false
	for i, r := range all {
		own := r.Uses(g.Index)
		if own && !r.Automatic() {
			behind := slices.ContainsFunc(all[i+1:], func(o rtnl.Route) bool { return !o.Uses(g.Index) })
			g.Routes, g.First = append(g.Routes, r.Clone()), append(g.First, !ahead && behind)
		}
		ahead = ahead || !own || r.Family() == unix.AF_INET6
	}
	g.n = 0
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
