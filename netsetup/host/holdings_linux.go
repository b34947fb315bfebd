package netsetup

import (
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// readHoldings reads what the host has by a link.
func readHoldings(c rtnl, l Link) (Holdings, error) {
	h := Holdings{Index: l.Index, Since: bootSeconds()}
	if l.Index == 0 {
		return h, nil // there is no such link
	}
	addrs, err := c.addrs(l.Index)
	if err != nil {
		return h, err
	}
	h.Addrs = addrs
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := addRoutes(c, &h, family); err != nil {
			return h, err
		}
		for _, flags := range []byte{0, unix.NTF_PROXY} {
			ask := rtmsg(family)
			ask[10] = flags
			list, err := c.dump(unix.RTM_GETNEIGH, ask)
			if err != nil {
				return h, err
			}
			for _, r := range list {
				if n := (neighbour{r}); n.index() == l.Index && n.family() == family && n.proxy() == (flags != 0) && n.worth() {
					h.Neighs = append(h.Neighs, r)
				}
			}
		}
		list, err := c.dump(unix.RTM_GETRULE, rtmsg(family))
		if err != nil {
			return h, err
		}
		for _, r := range list {
			if (rule{r}).names(l.Name) {
				h.Rules = append(h.Rules, r)
			}
		}
	}
	return h, nil
}

// addRoutes reads the routes by the link, and those that are alike but lead
// elsewhere: they decide where a new one belongs.
func addRoutes(c rtnl, h *Holdings, family int) error {
	list, err := c.dump(unix.RTM_GETROUTE, rtmsg(family))
	if err != nil {
		return err
	}
	for i, r := range list {
		r := route{r}
		if !r.uses(h.Index) || r.automatic() {
			continue
		}
		h.Routes = append(h.Routes, r.Raw)
		h.name(r)
		ahead := slices.ContainsFunc(list[:i], func(o Raw) bool { return (route{o}).tied(r) })
		behind := slices.ContainsFunc(list[i+1:], func(o Raw) bool { return (route{o}).tied(r) && !(route{o}).uses(h.Index) })
		h.First = append(h.First, !ahead && behind)
	}
	return nil
}

// name remembers the names of the other links of a multipath route.
func (h *Holdings) name(r route) {
	for _, hop := range r.hops() {
		if l, err := net.InterfaceByIndex(hop.index); err == nil && hop.index != h.Index {
			if h.Names == nil {
				h.Names = map[int]string{}
			}
			h.Names[hop.index] = l.Name
		}
	}
}

func bootSeconds() int64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) //nolint:errcheck // it has no way to fail
	return now.Sec
}
