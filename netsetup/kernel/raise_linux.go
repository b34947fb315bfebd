package kernel

import (
	"context"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Raisable is the step that raises the metrics of the routes by a link as they are.
func (h *Host) Raisable(l host.Link) (step.RaiseMetrics, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return step.RaiseMetrics{}, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	held, err := host.ReadHoldings(c, l)
	return step.RaiseMetrics{Link: l.Name, Held: held.Raisable()}, err
}

// ReplaceRoutes puts new routes by the link in the place of those old ones that
// are there: first all new ones, so that there is no moment without.
//
//	ip route append NEW
//	ip route del OLD
func (h *Host) ReplaceRoutes(ctx context.Context, link string, swaps []step.RouteSwap) error {
	l, ok, err := h.Link(ctx, link)
	if err == nil && !ok {
		err = host.Refuse("there is no link %q", link)
	}
	if err != nil {
		return err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	now, err := host.ReadHoldings(c, l)
	if err != nil {
		return err
	}
	var add, del []rtnl.Request
	for _, s := range swaps {
		old := rtnl.Route{Raw: s.Old}
		if !slices.ContainsFunc(now.RouteList(), func(r rtnl.Route) bool { return r.Alike(old) }) {
			continue
		}
		flags := netlink.Create | netlink.Append
		if s.First {
			flags = netlink.Create
		}
		add = append(add, rtnl.Request{
			Type: unix.RTM_NEWROUTE, Flags: flags, Data: s.New, Except: []error{unix.EEXIST}, Words: fmt.Sprintf("add route %s", old.Dst()),
		})
		del = append(del, rtnl.DelRoute(l.Name, old))
	}
	slices.Reverse(del)
	return host.Explain(c.Send(append(add, del...)))
}
