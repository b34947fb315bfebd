package kernel

import (
	"context"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Raisable returns the step that raises the metrics of the routes that a link has now.
//
//	ip route show table all dev LINK
func (h *Host) Raisable(l host.Link) (step.RaiseMetrics, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return step.RaiseMetrics{}, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	held, err := host.ReadHoldings(c, l)
	return step.RaiseMetrics{Link: l.Name, Held: held.Raisable()}, err
}

// ReplaceRoutes puts new routes by the link in place of the old ones, as far as these are
// there. It adds all new ones before it deletes the old ones, so that there always is one.
//
//	ip route append|prepend NEW
//	ip route del OLD
func (h *Host) ReplaceRoutes(ctx context.Context, link string, swaps []step.RouteSwap) error {
	l, ok, err := h.Link(ctx, link)
	if err == nil && !ok {
		err = host.Refuse("there is no link %q: run the network's VMs again", link)
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
		if !slices.ContainsFunc(now.Routes, s.Old.Same) {
			continue
		}
		request := rtnl.AppendRoute
		if s.First {
			request = rtnl.PrependRoute
		}
		add = append(add, request(l.Name, s.New))
		del = append(del, rtnl.DelRoute(l.Name, s.Old))
	}
	slices.Reverse(del)
	return host.Explain(c.Send(append(add, del...)))
}
