package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/ways"
	"github.com/qnet-vm/qnet/profiles"
)

// only6 is a host that reaches the Internet by IPv6 alone.
func only6() host.Facts {
	f := hosttest.Facts("nat-ipv6")
	f.Ways = slices.DeleteFunc(f.Ways, func(w ways.Way) bool { return !w.IPv6 })
	f.Routes = slices.DeleteFunc(f.Routes, func(r host.Route) bool { return r.Dst.Bits() == 0 })
	f.Outward = slices.DeleteFunc(f.Outward, func(r fib.Route) bool { return r.Dst.Bits() == 0 })
	return f
}

// A host and a network that cannot have IPv6 have a network of IPv4, and the user knows.
func TestIPv6Notes(t *testing.T) {
	nat := Network{Name: "dev", Mode: profiles.NAT, IPv6: true}
	without := hosttest.Laptop()
	without.HasIPv6 = false
	small := nat
	small.MTU = 1000
	plain := nat
	plain.IPv6 = false
	router := hosttest.Facts("nat-ipv6-all")
	router.Routers6 = []string{"eth1", "br0"}
	for _, c := range []struct {
		n      Network
		f      host.Facts
		prefix bool
		out    bool
		want   string
	}{
		{nat, without, false, false, "guests of network dev have IPv4 alone: this host's kernel has no IPv6"},
		{small, hosttest.Facts("nat-ipv6"), false, false, "IPv6 needs an mtu of 1280, and the network has 1000"},
		{nat, hosttest.Facts("nat-ipv6"), true, true, ""},
		{nat, hosttest.Facts("nat-ipv6-all"), true, true, ""},
		{nat, router, true, false, "guests of network dev reach no IPv6 outside: of this host's links eth1, br0 forward IPv6"},
		{nat, only6(), true, true, "guests of network dev reach the Internet by IPv6 alone, as this host does (eth0)"},
		{plain, only6(), false, false, `they reach this host and its LANs; ipv6 = "auto" in [network.dev] or mode bridge gives them IPv6`},
		{Network{Name: "dev", Mode: profiles.HostOnly, IPv6: true}, hosttest.Facts("nat-ipv6"), true, false, ""},
	} {
		p := mustPlan(t, c.n, c.f)
		if p.Prefix6.IsValid() != c.prefix || p.Outward6 != c.out {
			t.Errorf("%q: prefix %s, outward %t", c.want, p.Prefix6, p.Outward6)
		}
		notes := strings.Join(p.Notes, "\n")
		if !strings.Contains(notes, c.want) || c.want == "" && strings.Contains(notes, "IPv6") {
			t.Errorf("got %q, want %q", notes, c.want)
		}
	}
	for _, mode := range []profiles.Mode{profiles.Private, profiles.Bridge} {
		if p, err := New(Network{Name: "dev", Mode: mode, IPv6: true, Uplink: map[profiles.Mode]string{profiles.Bridge: "br0"}[mode]}, hosttest.Laptop(), Options{Salt: hosttest.Salt}); err == nil && p.Prefix6.IsValid() {
			t.Errorf("%s: %s", mode, p.Prefix6)
		}
	}
}

// Without ipv6 nothing of a plan depends on the host's IPv6: no step and no rule.
func TestNoIPv6NoSteps(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.HostOnly, profiles.NAT} {
		n := Network{Name: "dev", Mode: mode, Subnet: netip.MustParsePrefix("192.168.223.0/24")}
		for _, f := range []host.Facts{hosttest.Facts("nat-ipv6"), hosttest.Facts("nat-ipv6-all")} {
			f.Routes6 = nil // host.Observe reads them for networks with IPv6
			p, plain := mustPlan(t, n, f), hosttest.Laptop()
			plain.HasIPv6 = true
			if want := mustPlan(t, n, plain); !slices.EqualFunc(p.Steps, want.Steps, func(a, b step.Step) bool { return a.String() == b.String() }) {
				t.Errorf("%s: got %v, want %v", mode, p.Steps, want.Steps)
			}
			for _, table := range step.All[step.AddTable](p.Steps) {
				if strings.Contains(table.Table.String(), "ip6") || strings.Contains(table.Table.String(), "nfproto") {
					t.Errorf("%s: %s", mode, table)
				}
			}
		}
	}
}

// Guests whose network names its uplink leave by it over IPv6, too, and have a router only while
// the host's route leads by it.
func TestPinnedIPv6(t *testing.T) {
	for uplink, out := range map[string]bool{"eth0": true, "eth1": false} {
		p := mustPlan(t, Network{Name: "dev", Mode: profiles.NAT, IPv6: true, Uplink: uplink}, hosttest.Facts("nat-ipv6"))
		if p.Outward6 != out {
			t.Errorf("%s: outward %t", uplink, p.Outward6)
		}
		for _, rule := range p.forwardRules() {
			if rule.Source == p.Prefix6 && rule.Do == nft.Accept && rule.OutLink != nft.Link("@"+pinnedSet) {
				t.Errorf("%s: %s", uplink, rule)
			}
		}
	}
}
