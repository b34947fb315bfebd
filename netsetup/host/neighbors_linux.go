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
	askInterval = 200 * time.Millisecond // between two questions to one neighbor
	askTimeout  = time.Second            // for all answers before a move
)

// askNeighbors asks by the link which of the gateways answer, and peer where it is a
// neighbor. It notes peer only if the session comes in by this link.
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
	f.NIC.Answers, err = Ask(ctx, up, want, askTimeout)
	return err
}

// Ask asks on a link, by ARP and neighbor solicitation, for the wanted neighbors, until all of
// them have answered or within has passed. It returns those that answered: also another MAC
// than the wanted one. It needs CAP_NET_RAW.
func Ask(ctx context.Context, l Link, want []Neighbor, within time.Duration) ([]Neighbor, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.Addresses(l.Index)
	if err != nil {
		return nil, err
	}
	places, err := neigh.Ask(ctx, neigh.On(l.Index), queries(l, addrs, want), askInterval, within)
	if err != nil {
		err = fmt.Errorf("ask on %q: %w", l.Name, err)
	}
	var got []Neighbor
	for _, p := range places {
		got = append(got, Neighbor{p.Addr, p.MAC})
	}
	return got, err
}

// queries returns a question for each wanted neighbor, from an address of the link.
func queries(l Link, addrs []rtnl.Address, want []Neighbor) []neigh.Query {
	var list []neigh.Query
	for _, w := range want {
		from := neigh.Place{MAC: l.MAC, Addr: nearest(addrs, w.Addr)}
		list = append(list, neigh.Query{From: from, Target: w.Addr, Want: w.MAC})
	}
	return list
}
