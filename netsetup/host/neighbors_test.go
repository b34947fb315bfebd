package host

import (
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func heldAddress(p string) rtnl.Address {
	a := prefix(p)
	family := byte(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	return rtnl.Address{Message: rtnl.Append(rtnl.Message{family, byte(a.Bits()), 0, 0, 2, 0, 0, 0}, rtnl.Attr{Type: unix.IFA_ADDRESS, Value: a.Addr().AsSlice()})}
}

func TestQueries(t *testing.T) {
	l := Link{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	addrs := []rtnl.Address{heldAddress("10.0.0.5/8"), heldAddress("192.0.2.10/24"), heldAddress("2001:db8::5/64")}
	for _, c := range []struct {
		addrs        []rtnl.Address
		target, from string
	}{
		{addrs, "192.0.2.1", "192.0.2.10"},
		{addrs, "203.0.113.1", "10.0.0.5"},
		{addrs, "fe80::1", "2001:db8::5"},
		{addrs[:2], "fe80::1", "invalid IP"},
	} {
		got := queries(l, c.addrs, []Neighbor{{Addr: addr(c.target), MAC: l.MAC}})
		if len(got) != 1 || got[0].From.Addr.String() != c.from || got[0].Target != addr(c.target) || got[0].Want.String() != l.MAC.String() {
			t.Errorf("%s: got %+v, want from %s", c.target, got, c.from)
		}
	}
}

func TestAddRoutes(t *testing.T) {
	route := func(link uint32, metric uint32, table byte, protocol byte) rtnl.Route {
		m := rtnl.Message{unix.AF_INET, 0, 0, 0, table, protocol, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
		return rtnl.Route{Message: rtnl.Append(m, rtnl.Uint32(unix.RTA_OIF, link), rtnl.Uint32(unix.RTA_PRIORITY, metric))}
	}
	const main, local = unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL
	g := gathering{Holdings: Holdings{Index: 2}}
	for _, r := range []rtnl.Route{
		route(2, 1, main, 3), route(9, 1, main, 3), // first
		route(9, 2, main, 3), route(2, 2, main, 3), // second
		route(2, 3, main, 3),                                                               // alone
		route(2, 4, local, unix.RTPROT_KERNEL), route(9, 5, main, 3), route(2, 6, main, 3), // alone, and last
	} {
		g.add(r)
	}
	g.addTied()
	if len(g.Routes) != 4 || !slices.Equal(g.First, []bool{true, false, false, false}) {
		t.Errorf("%d routes, first %v", len(g.Routes), g.First)
	}
	for i, metric := range []uint32{1, 2, 3, 6} {
		if got := g.Routes[i]; got.Metric() != metric || got.Link() != 2 {
			t.Errorf("route %d by link %d has metric %d, want %d", i, got.Link(), got.Metric(), metric)
		}
	}
}
