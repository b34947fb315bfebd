package host

import (
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadHoldings reads what the host has by a link.
func ReadHoldings(c rtnl.Conn, l Link) (Holdings, error) {
	h := Holdings{Index: l.Index, Since: BootSeconds()}
	if l.Index == 0 {
		return h, nil // there is no such link
	}
	addrs, err := c.Addrs(l.Index)
	if err != nil {
		return h, err
	}
	h.Addrs = addrs
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := addRoutes(c, &h, family); err != nil {
			return h, err
		}
		for _, flags := range []byte{0, unix.NTF_PROXY} {
			ask := rtnl.MsgHeader(family)
			ask[10] = flags
			list, err := c.Dump(unix.RTM_GETNEIGH, ask)
			if err != nil {
				return h, err
			}
			for _, r := range list {
				if n := (rtnl.Neighbor{Raw: r}); n.Index() == l.Index && n.Family() == family && n.Proxy() == (flags != 0) && n.Worth() {
					h.Neighs = append(h.Neighs, r)
				}
			}
		}
		list, err := c.Dump(unix.RTM_GETRULE, rtnl.MsgHeader(family))
		if err != nil {
			return h, err
		}
		for _, r := range list {
			if (rtnl.Rule{Raw: r}).Names(l.Name) {
				h.Rules = append(h.Rules, r)
			}
		}
	}
	return h, nil
}

// addRoutes reads the routes by the link, and those that are alike but lead
// elsewhere: they decide where a new one belongs.
func addRoutes(c rtnl.Conn, h *Holdings, family int) error {
	list, err := c.Dump(unix.RTM_GETROUTE, rtnl.MsgHeader(family))
	if err != nil {
		return err
	}
	for i, r := range list {
		r := rtnl.Route{Raw: r}
		if !r.Uses(h.Index) || r.Automatic() {
			continue
		}
		h.Routes = append(h.Routes, r.Raw)
		h.name(r)
		ahead := slices.ContainsFunc(list[:i], func(o rtnl.Raw) bool { return (rtnl.Route{Raw: o}).Tied(r) })
		behind := slices.ContainsFunc(list[i+1:], func(o rtnl.Raw) bool { return (rtnl.Route{Raw: o}).Tied(r) && !(rtnl.Route{Raw: o}).Uses(h.Index) })
		h.First = append(h.First, !ahead && behind)
	}
	return nil
}

// name remembers the names of the other links of a multipath route.
func (h *Holdings) name(r rtnl.Route) {
	for _, hop := range r.Hops() {
		if l, err := net.InterfaceByIndex(hop.Index); err == nil && hop.Index != h.Index {
			if h.Names == nil {
				h.Names = map[int]string{}
			}
			h.Names[hop.Index] = l.Name
		}
	}
}

func BootSeconds() int64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) //nolint:errcheck // it has no way to fail
	return now.Sec
}
