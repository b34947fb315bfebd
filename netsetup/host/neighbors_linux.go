package host

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/netsetup/neigh"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

const (
	// askInterval is the time between two questions.
	askInterval = 200 * time.Millisecond
	// firstAsk is how long neighbours are asked before a move.
	firstAsk = time.Second
)

// askNeighbors asks the gateways by the link which of them answer, and peer where it is
// a neighbor. It notes peer only if the session comes in by this link.
func (f *Facts) askNeighbors(ctx context.Context, up Link, peer netip.Addr) error {
	if !f.NIC.Held.Carries() {
		return nil // nothing moves, so nothing has to answer afterwards
	}
	want := f.NIC.Askable()
	if peer.IsValid() && !peer.IsLoopback() {
		routes, err := netlink.RouteGet(peer.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].LinkIndex == up.Index {
			f.NIC.Peer = peer
			if routes[0].Gw == nil {
				want = append(want, Neighbor{Addr: peer})
			}
		}
	}
	f.NIC.Asked = true
	if len(want) == 0 {
		return nil
	}
	var err error
	f.NIC.Answers, err = Ask(ctx, up, want, firstAsk)
	return err
}

// Ask asks neighbors on a link by ARP and neighbor solicitation, until all those wanted
// have answered or within has passed. It returns those that answered, also with another
// MAC than the one wanted. It needs CAP_NET_RAW.
func Ask(ctx context.Context, l Link, want []Neighbor, within time.Duration) ([]Neighbor, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.Addrs(l.Index)
	if err != nil {
		return nil, err
	}
	queries := make([]neigh.Query, len(want))
	for i, w := range want {
		from := neigh.Place{MAC: l.MAC, Addr: Holdings{Addrs: addrs}.nearest(w.Addr)}
		queries[i] = neigh.Query{From: from, Target: w.Addr, Want: w.MAC}
	}
	places, err := neigh.Ask(ctx, neigh.On(l.Index), queries, askInterval, within)
	if err != nil {
		err = fmt.Errorf("ask on %q: %w", l.Name, err)
	}
	var got []Neighbor
	for _, p := range places {
		got = append(got, Neighbor{Addr: p.Addr, MAC: p.MAC})
	}
	return got, err
}
