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
	there := slices.DeleteFunc(slices.Clone(swaps), func(s step.RouteSwap) bool { return !slices.ContainsFunc(now.Routes, s.Old.Same) })
	var batch []rtnl.Request
	again := step.PlacedAgain(there)
	for _, s := range there {
		if s.Again {
			for _, r := range again {
				batch = append(batch, rtnl.DelRoute(l.Name, r))
			}
			again = nil // once, before the first of them
		}
		request := rtnl.AppendRoute
		if s.First {
			request = rtnl.PrependRoute
		}
		batch = append(batch, request(l.Name, s.New))
	}
	for _, r := range step.Replaced(there) {
		batch = append(batch, rtnl.DelRoute(l.Name, r))
	}
	return host.Explain(c.Send(batch))
}
