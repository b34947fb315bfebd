package ula

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/profiles"
)

func request(network string) Request {
	return Request{Network: network, Bridge: "qn-" + network, Salt: hosttest.Salt}
}

// route is a route by tun0 to a prefix.
func route(dst netip.Prefix) host.Route {
	return host.Route{Dst: dst, Link: "tun0", Table: fib.MainTable}
}

// Networks of a host share a /48, which no other host has; each has a /64 of its own, the same
// at every run.
func TestPrefixes(t *testing.T) {
	seen := map[netip.Prefix]string{}
	var site netip.Prefix
	for _, name := range []string{"nat", "dev", "lab", "host-only"} {
		p, err := Choose(request(name), host.Facts{})
		if err != nil || !profiles.ValidSubnet6(p) {
			t.Fatalf("%s: %s, %v", name, p, err)
		}
		if again, _ := Choose(request(name), host.Facts{}); again != p {
			t.Errorf("%s: %s, then %s", name, p, again)
		}
		if seen[p] != "" {
			t.Errorf("%s and %s have %s", name, seen[p], p)
		}
		seen[p] = name
		if of, _ := p.Addr().Prefix(48); !site.IsValid() {
			site = of
		} else if of != site {
			t.Errorf("%s: %s is not of %s", name, p, site)
		}
	}
	other := request("nat")
	other.Salt = []byte("of another host")
	if p, _ := Choose(other, host.Facts{}); site.Contains(p.Addr()) {
		t.Errorf("another host has %s, too", p)
	}
}

// What the host uses is avoided, whether it lies in the prefix or the prefix in it. The choice
// stays when that is gone again.
func TestPrefixesInUse(t *testing.T) {
	first, _ := Choose(request("dev"), host.Facts{})
	in := func(bits int) netip.Prefix { p, _ := first.Addr().Prefix(bits); return p }
	wide := in(8)
	for name, c := range map[string]struct {
		facts host.Facts
		free  bool
	}{
		"nothing":                    {host.Facts{}, true},
		"an address":                 {host.Facts{Links: []host.Link{{Name: "up0", Addresses: []netip.Prefix{netip.PrefixFrom(first.Addr().Next(), 64)}}}}, false},
		"a single address":           {host.Facts{Links: []host.Link{{Name: "up0", Addresses: []netip.Prefix{netip.PrefixFrom(first.Addr().Next(), 128)}}}}, false},
		"the network's own":          {host.Facts{Links: []host.Link{{Name: "qn-dev", Addresses: []netip.Prefix{netip.PrefixFrom(first.Addr().Next(), 64)}}}}, true},
		"a route to it":              {host.Facts{Routes6: []host.Route{route(first)}}, false},
		"a route to a part":          {host.Facts{Routes6: []host.Route{route(netip.PrefixFrom(first.Addr(), 80))}}, false},
		"a route to the host's /48":  {host.Facts{Routes6: []host.Route{route(in(48))}}, false},
		"a summary":                  {host.Facts{Routes6: []host.Route{route(wide), route(netip.PrefixFrom(netip.IPv6Unspecified(), 0))}}, true},
		"a wide route to nowhere":    {host.Facts{Routes6: []host.Route{{Dst: in(48), Nowhere: true, Table: fib.MainTable}}}, true},
		"a narrow route to nowhere":  {host.Facts{Routes6: []host.Route{{Dst: first, Nowhere: true, Table: fib.MainTable}}}, false},
		"a name server of the host":  {host.Facts{Resolvers: []netip.Addr{first.Addr().Next()}}, false},
		"the route of its own link":  {host.Facts{Routes6: []host.Route{{Dst: first, Link: "qn-dev", Table: fib.MainTable}}}, true},
		"somebody else's IPv4 route": {host.Facts{Links: []host.Link{{Name: "up0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}}}, true},
	} {
		p, err := Choose(request("dev"), c.facts)
		if err != nil || (p == first) != c.free || conflict(p, c.facts, "qn-dev") != "" {
			t.Errorf("%s: got %s, %v, first choice %s", name, p, err, first)
		}
		remembered := request("dev")
		remembered.Remembered = p
		if again, err := Choose(remembered, host.Facts{}); err != nil || again != p {
			t.Errorf("%s: later %s, %v, want %s", name, again, err, p)
		}
		pinned := request("dev")
		pinned.Pinned = first
		if got, err := Choose(pinned, c.facts); c.free != (err == nil) || c.free && got != first {
			t.Errorf("%s: pinned %s, %v", name, got, err)
		} else if !c.free && (!errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "overlaps the host's ") || !strings.Contains(err.Error(), p.String())) {
			t.Errorf("%s: the refusal is %v, and %s is free", name, err, p)
		}
	}
}

// Where routes lead to all unique local addresses, in parts, nothing is free.
func TestNoPrefixIsFree(t *testing.T) {
	f := host.Facts{Routes6: []host.Route{route(netip.MustParsePrefix("fd00::/9")), route(netip.MustParsePrefix("fd80::/9"))}}
	if p, err := Choose(request("dev"), f); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "[network.dev] subnet6") {
		t.Errorf("%s, %v", p, err)
	}
}

func TestAddresses(t *testing.T) {
	p := netip.MustParsePrefix("fd12:3456:789a:1::/64")
	mac := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	guest := Guest(p, netip.MustParseAddr("10.77.0.11"))
	for got, want := range map[netip.Addr]string{
		Gateway(p):     "fd12:3456:789a:1::1",
		guest:          "fd12:3456:789a:1::a4d:b",
		EUI64(p, mac):  "fd12:3456:789a:1:5054:ff:fe12:3456",
		LinkLocal(mac): "fe80::5054:ff:fe12:3456",
	} {
		if got != netip.MustParseAddr(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if !profiles.ValidAddress6(p, guest) || profiles.ValidAddress6(p, Gateway(p)) || profiles.ValidAddress6(p, EUI64(p, mac)) {
		t.Error("qnet would not give what it gives")
	}
}
