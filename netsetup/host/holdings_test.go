package host_test

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func settled() host.Holdings { return hosttest.Settled().NIC.Held }

// route returns a route as the kernel lists it.
func route(dst string, kind, scope byte, attrs ...rtnl.Attr) rtnl.Route {
	p := netip.MustParsePrefix(dst)
	family := byte(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	m := rtnl.Message{family, byte(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, kind, 0, 0, 0, 0}
	m = rtnl.Append(m, rtnl.Attr{Type: unix.RTA_DST, Value: p.Addr().AsSlice()})
	return rtnl.Route{Message: rtnl.Append(m, attrs...)}
}

func via(gateway string) rtnl.Attr {
	return rtnl.Attr{Type: unix.RTA_GATEWAY, Value: netip.MustParseAddr(gateway).AsSlice()}
}

func by(link uint32) rtnl.Attr { return rtnl.Uint32(unix.RTA_OIF, link) }

// expires is the attribute of a route that the kernel drops after so many seconds.
func expires(seconds uint32) rtnl.Attr {
	v := make([]byte, 32)
	copy(v[8:], rtnl.Uint32(0, seconds*100).Value)
	return rtnl.Attr{Type: unix.RTA_CACHEINFO, Value: v}
}

// multipath returns a route with two nexthops, struct rtnexthop.
func multipath(dst string, links ...byte) rtnl.Route {
	var hops []byte
	for i, link := range links {
		gateway := rtnl.Append([]byte(nil), via(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String()))
		hops = append(append(hops, byte(8+len(gateway)), 0, 0, 0, link, 0, 0, 0), gateway...)
	}
	return route(dst, unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, rtnl.Attr{Type: unix.RTA_MULTIPATH, Value: hops})
}

func TestHoldingsAreCompared(t *testing.T) {
	h := settled()
	if h.Empty() || !h.Carries() || !h.Lasts() || !h.Same(settled()) || !h.HasAll(settled()) || !h.Has(h.Addrs[1]) {
		t.Error("the settled host's holdings are none of its own")
	}
	other := settled()
	other.Addrs = other.Addrs[:2]
	if h.Same(other) || other.Same(h) || other.HasAll(h) || !h.HasAll(other) || other.Has(h.Addrs[2]) {
		t.Error("an address less makes no difference")
	}
	other = settled()
	other.Routes = slices.Clone(other.Routes[:1])
	if h.Same(other) {
		t.Error("a route less makes no difference")
	}
	other = settled()
	other.Rules = []rtnl.Rule{{Message: make(rtnl.Message, 12)}}
	if h.Same(other) {
		t.Error("a rule more makes no difference")
	}
	other = settled()
	for i, a := range other.Addrs {
		other.Addrs[i] = a.WithLifetimes(rtnl.Lifetimes{Preferred: 10, Valid: 20})
	}
	if !h.Same(other) || other.Lasts() || other.Empty() {
		t.Error("lifetimes make a difference")
	}
	local := host.Holdings{Addrs: []rtnl.Address{{Message: rtnl.Append(rtnl.Message{unix.AF_INET6, 64, 0, 0, 2, 0, 0, 0},
		rtnl.Attr{Type: unix.IFA_ADDRESS, Value: netip.MustParseAddr("fe80::1").AsSlice()})}}}
	local.Routes = []rtnl.Route{route("fe80::/64", unix.RTN_UNICAST, 0, by(2))}
	if !local.Empty() || local.Carries() || local.Lasts() {
		t.Error("a link-local address counts")
	}
	local.Routes = append(local.Routes, route("2001:db8::/64", unix.RTN_UNICAST, 0, by(2)))
	if !local.Carries() {
		t.Error("a route does not count")
	}
}

func TestGateways(t *testing.T) {
	h := settled()
	h.Routes = append(h.Routes, h.Routes[0], route("128.0.0.0/1", unix.RTN_UNICAST, 0, via("192.0.2.7"), by(2)),
		route("198.51.100.0/24", unix.RTN_UNICAST, 0, via("192.0.2.8"), by(2)), multipath("0.0.0.0/0", 2, 9))
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.7")}
	if got := h.Gateways(); !slices.Equal(got, want) { // 192.0.2.1 is that of the hop by link 2, too
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRoutesInOrder(t *testing.T) {
	far := route("198.51.100.0/24", unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, via("192.0.2.1"), by(2))
	near := route("192.0.2.0/24", unix.RTN_UNICAST, unix.RT_SCOPE_LINK, by(2))
	far6 := route("2001:db8:1::/48", unix.RTN_UNICAST, 0, via("2001:db8::1"), by(2))
	near6 := route("2001:db8::/64", unix.RTN_UNICAST, 0, by(2))
	h := host.Holdings{Routes: []rtnl.Route{far6, far, near6, near}, First: []bool{false, true, false, false}}
	var got []string
	for _, r := range h.RoutesInOrder() {
		got = append(got, r.Dst().String())
		if r.First != (r.Dst() == far.Dst()) {
			t.Errorf("%s: first %t", r.Dst(), r.First)
		}
	}
	if want := []string{"192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64", "2001:db8:1::/48"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Routes that tie come in an order in which each can be added, and where that is not the
// kernel's, once more: first those before another link's, last one first, then the others.
func TestTiedRoutesInOrder(t *testing.T) {
	const dst = "198.51.0.0/17"
	far := route(dst, unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, via("192.0.2.1"), by(2))
	near := route(dst, unix.RTN_UNICAST, unix.RT_SCOPE_LINK, by(2))
	for _, c := range []struct {
		routes []rtnl.Route
		first  []bool
		want   string // f and n, in capitals where placed again
	}{
		{[]rtnl.Route{far, near}, []bool{true, true}, "nf"},
		{[]rtnl.Route{near, far}, []bool{true, true}, "nfFN"},
		{[]rtnl.Route{near, far}, []bool{false, false}, "nf"},
		{[]rtnl.Route{far, near}, []bool{false, false}, "nfFN"},
		{[]rtnl.Route{near, far}, []bool{true, false}, "nf"},
		{[]rtnl.Route{far, near}, []bool{true, false}, "nf"},
		{[]rtnl.Route{near}, []bool{true}, "n"},
	} {
		got := ""
		for _, r := range (host.Holdings{Routes: c.routes, First: c.first}).RoutesInOrder() {
			letter := "n"
			if r.Gateway().IsValid() {
				letter = "f"
			}
			if r.Again {
				letter = strings.ToUpper(letter)
			}
			got += letter
		}
		if got != c.want {
			t.Errorf("%v, first %v: got %s, want %s", c.routes, c.first, got, c.want)
		}
	}
}

func TestAged(t *testing.T) {
	h := settled()
	h.Addrs[0] = h.Addrs[0].WithLifetimes(rtnl.Lifetimes{Preferred: 50, Valid: 100})
	h.Addrs[1] = h.Addrs[1].WithLifetimes(rtnl.Lifetimes{Preferred: 20, Valid: 60})
	got := h.Aged(60)
	want := []rtnl.Lifetimes{{Preferred: 0, Valid: 40}, {Preferred: rtnl.Forever, Valid: rtnl.Forever}}
	if len(got.Addrs) != 2 || got.Addrs[0].Lifetimes() != want[0] || got.Addrs[1].Lifetimes() != want[1] {
		t.Errorf("got %d addresses: %+v", len(got.Addrs), got.Addrs[0].Lifetimes())
	}
	if h.Addrs[0].Lifetimes().Valid != 100 {
		t.Error("the holdings themselves have aged")
	}
}

func TestRaisable(t *testing.T) {
	for _, c := range []struct {
		name  string
		route rtnl.Route
		want  bool
	}{
		{"a route", route("198.51.100.0/24", unix.RTN_UNICAST, 0, via("192.0.2.1"), by(2)), true},
		{"an IPv6 route of a program", route("2001:db8:1::/48", unix.RTN_UNICAST, 0, via("2001:db8::1"), by(2)), true},
		{"an IPv6 route by RA", route("::/0", unix.RTN_UNICAST, 0, via("fe80::9"), by(2), expires(1800)), false},
		{"a blackhole", route("198.51.100.0/24", unix.RTN_BLACKHOLE, 0), false},
		{"raised already", route("0.0.0.0/0", unix.RTN_UNICAST, 0, by(2), rtnl.Uint32(unix.RTA_PRIORITY, host.RaisedBy)), false},
		{"also by another link", multipath("0.0.0.0/0", 2, 9), false},
		{"two ways by one link", multipath("0.0.0.0/0", 2, 2), true},
		{"link-local", route("fe80::/64", unix.RTN_UNICAST, 0, by(2)), false},
		{"multicast", route("224.0.0.0/4", unix.RTN_UNICAST, 0, by(2)), false},
		{"a nexthop object", route("0.0.0.0/0", unix.RTN_UNICAST, 0, by(2), rtnl.Uint32(30, 7)), false},
	} {
		h := host.Holdings{Index: 2, Since: 5, Addrs: settled().Addrs, Routes: []rtnl.Route{c.route}, First: []bool{true}}
		got := h.Raisable()
		if (len(got.Routes) == 1) != c.want || len(got.First) != len(got.Routes) || len(got.Addrs) != 0 || got.Index != 2 || got.Since != 5 {
			t.Errorf("%s: got %d routes, want %t", c.name, len(got.Routes), c.want)
		}
	}
}

// The journal of a network that an older qnet wrote can be read.
func TestHoldingsJSON(t *testing.T) {
	const old = `{"index":2,"since":7,"addrs":["AhgAAAIAAAAIAAEAwAACCg=="],"routes":["AgAAAP4DAAEAAAAACAAFAMAAAgEIAAQAAgAAAA=="],"first":[true]}`
	var h host.Holdings
	if err := json.Unmarshal([]byte(old), &h); err != nil {
		t.Fatal(err)
	}
	if h.Index != 2 || h.Addrs[0].Prefix().String() != "192.0.2.10/24" || h.Routes[0].Gateway().String() != "192.0.2.1" || !h.First[0] {
		t.Errorf("got %+v", h)
	}
	if got, err := json.Marshal(h); err != nil || string(got) != old {
		t.Errorf("got %s, %v, want %s", got, err, old)
	}
}

func TestHasTemporary(t *testing.T) {
	h := settled()
	a := h.Addrs[2]
	if h.HasTemporary(a) {
		t.Error("a static address counts as temporary")
	}
	h.Addrs[2] = a.On(2, "", unix.IFA_F_TEMPORARY)
	if !h.HasTemporary(a) {
		t.Error("the temporary address is not found")
	}
}

func TestUnanswered(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	addr := netip.MustParseAddr
	want := []host.Neighbor{{Addr: addr("192.0.2.1"), MAC: mac(1)}, {Addr: addr("192.0.2.2")}, {Addr: addr("2001:db8::1"), MAC: mac(3)}}
	got := []host.Neighbor{{Addr: addr("192.0.2.1"), MAC: mac(9)}, {Addr: addr("192.0.2.2"), MAC: mac(2)}}
	if s := host.JoinNeighbors(host.Unanswered(want, got)); s != "192.0.2.1 (02:00:00:00:00:01), 2001:db8::1 (02:00:00:00:00:03)" {
		t.Errorf("without an answer: %s", s)
	}
	if s := host.JoinNeighbors(want[1:2]); s != "192.0.2.2" {
		t.Errorf("got %s", s)
	}
	nic := hosttest.Settled().NIC
	if s := host.JoinNeighbors(nic.Askable()); s != "192.0.2.1, 2001:db8::1" {
		t.Errorf("to ask: %s", s)
	}
	nic.Asked, nic.Answers = true, got
	if s := host.JoinNeighbors(nic.Askable()); s != host.JoinNeighbors(got) {
		t.Errorf("to ask after answers: %s", s)
	}
}
