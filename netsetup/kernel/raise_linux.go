package netsetup

import (
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Raisable is the step that raises the metrics of the routes by a link as they are.
func (h *Host) Raisable(l Link) (RaiseMetrics, error) {
	c, err := dialRTNL()
	if err != nil {
		return RaiseMetrics{}, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	held, err := readHoldings(c, l)
	return RaiseMetrics{Link: l.Name, Held: held.raisable()}, err
}

// ReplaceRoutes puts new routes by the link in the place of those old ones that
// are there: first all new ones, so that there is no moment without.
//
//	ip route append NEW
//	ip route del OLD
func (h *Host) ReplaceRoutes(link string, swaps []Swap) error {
	l, ok, err := h.Link(link)
	if err == nil && !ok {
		err = fmt.Errorf("there is no link %q: %w", link, ErrRefused)
	}
	if err != nil {
		return err
	}
	c, err := dialRTNL()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	now, err := readHoldings(c, l)
	if err != nil {
		return err
	}
	var add, del []request
	for _, s := range swaps {
		old := route{s.Old}
		if !slices.ContainsFunc(now.routes(), func(r route) bool { return r.alike(old) }) {
			continue
		}
		flags := netlink.Create | netlink.Append
		if s.First {
			flags = netlink.Create
		}
		add = append(add, request{
			what: unix.RTM_NEWROUTE, flags: flags, data: s.New, but: []error{unix.EEXIST}, words: fmt.Sprintf("add route %s", old.dst()),
		})
		del = append(del, delRoute(l, old))
	}
	slices.Reverse(del)
	return explain(c.send(append(add, del...)))
}
