package subnet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/defined"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
)

// request is that of a network that leaves the choice to qnet.
func request(network string) Request {
	return Request{Network: network, Bridge: "qn-" + network, Salt: hosttest.Salt}
}

// on is a link with these addresses.
func on(name string, addresses ...string) host.Link {
	l := host.Link{Index: 90, Name: name, Kind: "device"}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
	}
	return l
}

// through are routes by tun0.
func through(prefixes ...string) []host.Route {
	var list []host.Route
	for _, p := range prefixes {
		list = append(list, host.Route{Dst: netip.MustParsePrefix(p), Link: "tun0", Via: netip.MustParseAddr("192.0.2.1"), Table: fib.MainTable})
	}
	return list
}

// A host that has one private range has networks in the next, and those that other programs
// take by default come last.
func TestSubnetOfEachRange(t *testing.T) {
	docker := []string{"172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13"}
	for name, c := range map[string]struct {
		link   host.Link
		routes []host.Route
		in     string
	}{
		"nothing":                            {on("up0"), nil, "10.0.0.0/8"},
		"the LAN is 10.0.0.0/8":              {on("up0", "10.11.12.13/8"), nil, "172.16.0.0/16"},
		"as two halves":                      {on("up0"), through("10.0.0.0/9", "10.128.0.0/9"), "172.16.0.0/16"},
		"10.0.0.0/8 and 172.16.0.0/12":       {on("up0", "10.11.12.13/8"), through("172.16.0.0/12"), "192.168.0.0/16"},
		"all but what Docker takes":          {on("up0", "10.11.12.13/8"), through("172.16.0.0/16", "192.168.0.0/16"), "172.16.0.0/12"},
		"all but one":                        {on("up0", "10.0.0.1/8", "192.168.7.1/16"), append(through(docker[:3]...), through("172.16.0.0/16", "172.28.0.0/14", "172.26.0.0/15", "172.25.0.0/16", "172.24.0.0/17", "172.24.128.0/18", "172.24.224.0/19", "172.24.192.0/20", "172.24.208.0/21", "172.24.216.0/22", "172.24.220.0/23", "172.24.222.0/24")...), "172.24.223.0/24"},
		"a VPN's summaries are no use":       {on("up0"), through("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"), "10.0.0.0/8"},
		"a VPN's longer ones are":            {on("up0", "10.0.0.1/8"), through("172.16.0.0/12"), "192.168.0.0/16"},
		"single addresses take their /24":    {on("up0", "10.1.2.3/32", "10.3.4.6/31"), through("10.3.3.3/32"), "10.0.0.0/8"},
		"IPv6 addresses are in nobody's way": {on("up0", "fd00::1/8", "::ffff:10.0.0.1/104"), nil, "10.0.0.0/8"},
	} {
		f := hosttest.Laptop()
		f.Links, f.Routes = append(f.Links, c.link), append(f.Routes, c.routes...)
		for _, network := range []string{"dev", "lab", "nat"} {
			p, err := Choose(request(network), f)
			if in := netip.MustParsePrefix(c.in); err != nil || !in.Contains(p.Addr()) || conflict(p, f, "") != "" {
				t.Errorf("%s: got %s, %v, want one of %s", name, p, err, in)
			}
			if again, _ := Choose(request(network), f); again != p {
				t.Errorf("%s: got %s, then %s", name, p, again)
			}
		}
	}
}

// A route that leads nowhere is no use of its addresses, in whatever table.
func TestRoutesToNowhere(t *testing.T) {
	pinned := request("dev")
	pinned.Pinned = netip.MustParsePrefix("192.168.223.0/24")
	for _, table := range []int{fib.MainTable, 7} {
		f := hosttest.Laptop()
		for _, p := range host.Private {
			f.Routes = append(f.Routes, host.Route{Dst: p, Table: table, Nowhere: true})
		}
		if _, err := Choose(pinned, f); err != nil {
			t.Errorf("table %d: %v", table, err)
		}
		if p, err := Choose(request("dev"), f); err != nil || !host.Private[0].Contains(p.Addr()) {
			t.Errorf("table %d: %s, %v", table, p, err)
		}
	}
}

// It is one where it would keep the host from the guests: the bridge's route is no more specific.
func TestNarrowRoutesToNowhere(t *testing.T) {
	pinned := request("dev")
	pinned.Pinned = netip.MustParsePrefix("192.168.223.0/24")
	for dst, free := range map[string]bool{"192.168.222.0/23": true, "192.168.223.0/24": false, "192.168.223.128/25": false, "192.168.223.9/32": false} {
		f := hosttest.Laptop()
		f.Routes = append(f.Routes, host.Route{Dst: netip.MustParsePrefix(dst), Table: fib.MainTable, Nowhere: true})
		_, err := Choose(pinned, f)
		if free != (err == nil) || !free && !strings.Contains(err.Error(), "route "+dst+", which leads nowhere") {
			t.Errorf("%s: %v", dst, err)
		}
	}
}

// A refusal names what is in the way, where it is, and what is free.
func TestRefusalsNameTheUse(t *testing.T) {
	free := request("dev")
	pinned := free
	pinned.Pinned = netip.MustParsePrefix("192.168.223.0/24")
	all := through("172.16.0.0/12", "192.168.0.0/17", "192.168.128.0/18", "192.168.192.0/18", "192.168.223.0/24")
	for name, c := range map[string]struct {
		r      Request
		link   host.Link
		routes []host.Route
		rules  []fib.Rule
		want   string
	}{
		"an address":        {pinned, on("up0", "192.168.223.7/25"), nil, nil, "subnet 192.168.223.0/24 overlaps the host's address 192.168.223.7/25 on up0: choose another, such as 10."},
		"a single one":      {pinned, on("up0", "192.168.223.7/32"), nil, nil, "address 192.168.223.7/32 on up0"},
		"a route":           {pinned, on("up0"), through("192.168.0.0/16"), nil, "route 192.168.0.0/16 via 192.0.2.1 dev tun0: choose another"},
		"of another table":  {pinned, on("up0"), []host.Route{{Dst: netip.MustParsePrefix("192.168.223.128/25"), Link: "tun0", Table: 51820}}, nil, "route 192.168.223.128/25 dev tun0 table 51820: choose another"},
		"a policy rule":     {pinned, on("up0"), nil, []fib.Rule{{Priority: 99, To: netip.MustParsePrefix("192.168.0.0/16"), Table: 7}}, "policy rule 99 to 192.168.0.0/16: choose another"},
		"one by its source": {pinned, on("up0"), nil, []fib.Rule{{Priority: 99, From: netip.MustParsePrefix("192.168.223.0/24"), Table: 7}}, "policy rule 99 from 192.168.223.0/24: choose another"},
		"nothing is free":   {pinned, on("up0", "10.11.12.13/8"), all, nil, "overlaps the host's route 192.168.192.0/18 via 192.0.2.1 dev tun0: choose another, or leave subnet out"},
		"everything is used": {free, on("up0", "10.11.12.13/8"), all, nil, "in use, by the host's address 10.11.12.13/8 on up0, route 172.16.0.0/12 via 192.0.2.1 dev tun0, " +
			"route 192.168.0.0/17 via 192.0.2.1 dev tun0, route 192.168.128.0/18 via 192.0.2.1 dev tun0 and"},
	} {
		f := hosttest.Laptop()
		f.Links, f.Routes, f.Rules = append(f.Links, c.link), append(f.Routes, c.routes...), append(f.Rules, c.rules...)
		_, err := Choose(c.r, f)
		if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant %q", name, err, c.want)
		}
	}
}

// manyRoutes is a host of which n routes are in private ranges, and more of them elsewhere.
func manyRoutes(n int) host.Facts {
	f := hosttest.Laptop()
	for i := range n {
		for _, first := range []byte{10, 100} {
			dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{first, byte(i >> 8), byte(i), byte(i >> 16)}), 32)
			f.Routes = append(f.Routes, host.Route{Dst: dst, Link: "tun0", Table: fib.MainTable})
		}
	}
	return f
}

// With a route for every /24 of 10.0.0.0/8, a choice asks about 70,000 subnets, and sorts the
// routes once. If it looked at every route for every subnet, it would take a minute.
func TestSubnetBesideManyRoutes(t *testing.T) {
	f := manyRoutes(1 << 16)
	got := testing.AllocsPerRun(1, func() {
		p, err := Choose(request("dev"), f)
		if err != nil || host.Private[0].Contains(p.Addr()) {
			t.Fatalf("got %s, %v", p, err)
		}
	})
	if got > 100_000 { // 20,000, and under the race detector 78,000
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkSubnetBesideManyRoutes(b *testing.B) {
	f := manyRoutes(100_000)
	for b.Loop() {
		if _, err := Choose(request("dev"), f); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSubnetIsChosenFreeAndAgain(t *testing.T) {
	f := hosttest.Laptop()
	first, err := Choose(request("dev"), f)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Choose(request("dev"), f); again != first {
		t.Errorf("got %s then %s", first, again)
	}
	if other, _ := Choose(request("lab"), f); other == first {
		t.Errorf("two networks got %s", first)
	}
	// Another program has a larger, an equal or a smaller prefix, in any table.
	for _, taken := range []netip.Prefix{netip.PrefixFrom(first.Addr(), 16).Masked(), first, netip.PrefixFrom(first.Addr(), 30)} {
		g := hosttest.Laptop()
		g.Routes = append(g.Routes, host.Route{Dst: taken, Link: "tun0", Table: 7})
		second, err := Choose(request("dev"), g)
		if err != nil || second.Overlaps(taken) {
			t.Errorf("route %s: got %s, %v", taken, second, err)
		}
		// What was chosen then stays, when the first is free again.
		kept := request("dev")
		kept.Remembered = second
		if again, _ := Choose(kept, f); again != second {
			t.Errorf("got %s, want the remembered %s", again, second)
		}
	}
	// A policy rule selects it, whose table may get its routes later; or a network has it
	// that is defined and down.
	g := hosttest.Laptop()
	g.Rules = append(g.Rules, fib.Rule{Priority: 100, To: first, Table: 7})
	if second, err := Choose(request("dev"), g); err != nil || second == first {
		t.Errorf("rule to %s: got %s, %v", first, second, err)
	}
	g = hosttest.Laptop()
	g.Defined = []defined.Network{{Prefix: first, By: `the network "default" of libvirt`}}
	if second, err := Choose(request("dev"), g); err != nil || second == first {
		t.Errorf("defined %s: got %s, %v", first, second, err)
	}
	// The network's own bridge, which a crash left, is no conflict.
	g = hosttest.Laptop()
	g.Routes = append(g.Routes, host.Route{Dst: first, Link: "qn-dev", Table: 254})
	if again, _ := Choose(request("dev"), g); again != first {
		t.Errorf("got %s, want %s", again, first)
	}
}

func TestUsable(t *testing.T) {
	p := netip.MustParsePrefix("192.168.223.0/28")
	if !Usable(p, netip.MustParseAddr("192.168.223.2")) {
		t.Error("192.168.223.2 is not usable")
	}
	for _, bad := range []string{"192.168.223.0", "192.168.223.1", "192.168.223.15", "192.168.223.16", "192.168.222.2"} {
		if Usable(p, netip.MustParseAddr(bad)) {
			t.Errorf("%s is usable", bad)
		}
	}
}
