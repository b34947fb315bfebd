package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/ways"
	"github.com/qnet-vm/qnet/profiles"
)

var everyone = netip.MustParsePrefix("0.0.0.0/0")

// Guests get a way of their own by the uplink that the profile names where, and only where, the
// host would send them elsewhere and the uplink has a default route.
func TestExit(t *testing.T) {
	n := Network{Name: "isp", Mode: profiles.NAT, Uplink: "eth1", Subnet: netip.MustParsePrefix("192.168.223.0/24")}
	gateway := netip.MustParseAddr("198.51.100.1")
	want := step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: gateway, Table: 11300, Priority: 11300}
	for _, c := range []struct {
		name   string
		change func(f *host.Facts)
		want   step.LeaveBy // zero for none
		note   string       // "" for none
	}{
		{"a second default route", func(*host.Facts) {}, want, ""},
		{"a default route of another table", func(f *host.Facts) { f.Routes[len(f.Routes)-1].Table = 100 }, want, ""},
		{"the host's own uplink", func(f *host.Facts) { f.Outward[0].Link = 5 }, step.LeaveBy{}, ""},
		{"no default route", func(f *host.Facts) { f.Routes = f.Routes[:len(f.Routes)-1] }, step.LeaveBy{}, "no default route leads by it"},
		{"rules that send the guests there", func(f *host.Facts) {
			f.Outward[1].Table = 100
			f.Rules = slices.Insert(f.Rules, 1, fib.Rule{Priority: 9, From: n.Subnet, Table: 100, Suppress: -1, Protocol: 113})
		}, step.LeaveBy{}, ""},
		{
			"before a VPN's rules", func(f *host.Facts) {
				f.Rules = slices.Insert(f.Rules, 1, fib.Rule{Priority: 5210, Table: 52, Suppress: -1})
			},
			step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: gateway, Table: 11300, Priority: 5208},
			"",
		},
		{"a table in use, of another network as well", func(f *host.Facts) {
			f.Rules = append(f.Rules, fib.Rule{Priority: 40000, Table: 11300})
			f.Routes = append(f.Routes, host.Route{Dst: everyone, Link: "eth1", Table: 11301})
			f.Outward = append(f.Outward, fib.Route{Dst: everyone, Table: 11301, Protocol: fib.PinProtocol, Link: 5})
		}, step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: gateway, Table: 11302, Priority: 11300}, ""},
		{"while it runs", func(f *host.Facts) {
			for i, table := range []int{fib.MainTable, 11307} {
				f.Rules = append(f.Rules, fib.Rule{In: "qn-isp", Priority: 11300 + i, Table: table, Protocol: fib.PinProtocol, Suppress: 1 - 2*i})
			}
			f.Outward = append(f.Outward, fib.Route{Dst: everyone, Table: 11307, Protocol: fib.PinProtocol, Link: 5})
		}, step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: gateway, Table: 11307, Priority: 11300}, ""},
		{"down", func(f *host.Facts) { f.Links[4].Up = false }, want, "eth1 is down: ip link set eth1 up"},
		{"without an address", func(f *host.Facts) { f.Links[4].Addresses = nil }, want, "by the address of another link, as eth1 has none"},
		{"without a cable", func(f *host.Facts) { f.Links[4].Carrier = false }, want, "eth1 has no carrier"},
	} {
		f := hosttest.TwoISPs()
		c.change(&f)
		p := mustPlan(t, n, f)
		got, _ := step.Find[step.LeaveBy](p.Steps)
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
		if notes := strings.Join(p.Unreached, "\n"); c.note == "" && notes != "" || !strings.Contains(notes, c.note) {
			t.Errorf("%s: notes %q", c.name, notes)
		}
	}
}

// A strict rp_filter of the uplink, or of all links, becomes loose, and nothing else.
func TestLooseSource(t *testing.T) {
	n := Network{Name: "isp", Mode: profiles.NAT, Uplink: "eth1"}
	for values, want := range map[[2]string]string{{"1", "0"}: "0", {"0", "1"}: "1", {"1", "1"}: "1", {"2", "1"}: "", {"1", "2"}: "", {"0", "0"}: ""} {
		f := hosttest.TwoISPs()
		f.Sysctls[host.RPFilterKey("all")], f.Sysctls[host.RPFilterKey("eth1")] = values[0], values[1]
		old := ""
		for _, s := range step.All[step.SetSysctl](mustPlan(t, n, f).Steps) {
			if s.Key == host.RPFilterKey("eth1") {
				old = s.Old
			}
		}
		if old != want {
			t.Errorf("all %s, own %s: old value %q, want %q", values[0], values[1], old, want)
		}
	}
}

// An exit follows its uplink's gateway, and stays where the uplink has none.
func TestRerouted(t *testing.T) {
	p := &Plan{Network: Network{Mode: profiles.NAT, Uplink: "eth1"}}
	f := hosttest.TwoISPs()
	there := host.Route{Dst: everyone, Link: "eth1", Via: netip.MustParseAddr("198.51.100.1"), Table: 11300}
	s := step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: there.Via, Table: 11300, Priority: 7}
	f.Outward = append(f.Outward, fib.Route{Dst: everyone, Table: 11300, Protocol: fib.PinProtocol, Link: 5})
	if now, changed := p.Rerouted(f, s); !changed || now != s {
		t.Errorf("its route is gone: %+v, %t", now, changed)
	}
	f.Routes = append(f.Routes, there)
	if _, changed := p.Rerouted(f, s); !changed {
		t.Error("its rules are gone, and nothing changes")
	}
	for i, table := range []int{fib.MainTable, 11300} {
		f.Rules = append(f.Rules, fib.Rule{In: "qn-isp", Priority: 7 + i, Table: table, Protocol: fib.PinProtocol})
	}
	if now, changed := p.Rerouted(f, s); changed {
		t.Errorf("as it should be: %+v", now)
	}
	f.Routes[len(f.Routes)-2].Via = netip.MustParseAddr("198.51.100.2")
	if now, changed := p.Rerouted(f, s); !changed || now.Via.String() != "198.51.100.2" || now.Table != 11300 {
		t.Errorf("another gateway: %+v, %t", now, changed)
	}
	f.Routes = slices.Delete(f.Routes, len(f.Routes)-2, len(f.Routes)-1)
	if now, changed := p.Rerouted(f, s); changed {
		t.Errorf("no gateway: %+v", now)
	}
}

// Where another network moves the host from the uplink to its bridge, the exit goes with it.
func TestReroutedToBridge(t *testing.T) {
	f := hosttest.TwoISPs()
	p := &Plan{Bridge: "qn-isp", Network: Network{Mode: profiles.NAT, Uplink: "eth1"}}
	s := step.LeaveBy{Bridge: "qn-isp", Link: "eth1", Via: netip.MustParseAddr("198.51.100.1"), Table: 11300, Priority: 7}
	f.Links = append(f.Links, host.Link{Index: 60, Name: "qn-bridge", Kind: "bridge", Alias: host.NetworkMark("bridge"), Up: true, Carrier: true})
	for i, l := range f.Links {
		if l.Name == "eth1" {
			f.Links[i].Master = 60
		}
	}
	for i, r := range f.Routes {
		if r.Link == "eth1" {
			f.Routes[i].Link = "qn-bridge"
		}
	}
	if now, changed := p.Rerouted(f, s); !changed || now.Link != "qn-bridge" {
		t.Errorf("got %+v, %t", now, changed)
	}
}

// What guests do not reach of what the host does is said.
func TestUnreached(t *testing.T) {
	nat := Network{Name: "dev", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24")}
	lan := Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}
	rule := func(r fib.Rule) func(f *host.Facts) {
		return func(f *host.Facts) {
			r.Priority, r.Suppress = 100, -1
			f.Rules = slices.Insert(f.Rules, 1, r)
			f.Outward = append(f.Outward, fib.Route{Dst: everyone, Table: 52, Link: 8})
		}
	}
	for _, c := range []struct {
		name    string
		network Network
		change  func(f *host.Facts)
		want    string // "" for nothing
	}{
		{"one way", nat, func(*host.Facts) {}, ""},
		{"an offline host", nat, func(f *host.Facts) { f.Ways, f.Outward = nil, nil }, ""},
		{"an IPv6 host", nat, func(f *host.Facts) { f.Ways, f.Outward = []ways.Way{{Link: 2, IPv6: true}}, nil }, "by IPv6 alone (eth0)"},
		{"a prohibited subnet", nat, rule(fib.Rule{From: netip.MustParsePrefix("192.0.0.0/8"), Ends: true}), "do not reach the Internet: this host's own packets leave by eth0"},
		{"a way for guests", nat, rule(fib.Rule{In: "qn-dev", Table: 52}), "guests of network dev leave by tun0, and this host's own packets by eth0"},
		{"a rule for another network", nat, rule(fib.Rule{In: "qn-lab", Table: 52}), ""},
		{"a bridge", lan, func(*host.Facts) {}, ""},
		{"a bridge without a port", lan, func(f *host.Facts) { f.Links[6].Master = 0 }, "br0 is a bridge without a port"},
		{"a bridge of VMs alone", lan, func(f *host.Facts) { f.Links[6].Alias = "qnet:lan/web/0" }, "br0 is a bridge without a port"},
		{"a bridge without a cable", lan, func(f *host.Facts) { f.Links[6].Carrier = false }, "no port has a carrier"},
	} {
		f := hosttest.Laptop()
		c.change(&f)
		p := mustPlan(t, c.network, f)
		if got := strings.Join(p.Unreached, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) || c.want != "" && !slices.Contains(p.Notes, got) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	f := hosttest.Laptop()
	f.Links[5].Up = false
	if _, err := New(lan, f, Options{Salt: hosttest.Salt}); err == nil || !strings.Contains(err.Error(), `uplink "br0" is down: set it up with ip link set br0 up`) {
		t.Errorf("a bridge that is down: %v", err)
	}
	nat.Uplink = "eth2"
	if _, err := New(nat, hosttest.Laptop(), Options{Salt: hosttest.Salt}); err == nil || !strings.Contains(err.Error(), `already is a port of br0: use uplink = "br0"`) {
		t.Errorf("a port: %v", err)
	}
}

// Links that appear are followed, each in its list, and only the one that the profile names.
func TestAppeared(t *testing.T) {
	f := hosttest.Laptop()
	p := mustPlan(t, Network{Name: "dev", Mode: profiles.NAT}, f)
	pinned := mustPlan(t, Network{Name: "isp", Mode: profiles.NAT, Uplink: "eth1"}, f)
	f.Links = append(f.Links, host.Link{Index: 50, Name: "vmbr1", Kind: "bridge"}, host.Link{Index: 51, Name: "en1", Kind: "veth", Master: 50}, host.Link{Index: 52, Name: "tun1", Kind: "tun"})
	f.Sysctls[host.ForwardingKey("vmbr1")] = "0"
	f.Routes = append(f.Routes, host.Route{Dst: netip.MustParsePrefix("10.50.0.0/24"), Link: "vmbr1", Table: 254}, host.Route{Dst: everyone, Link: "tun1", Table: 52})
	got := p.Appeared(f)
	if len(got) != 2 || got[0].Name != "tun1" || got[1].Name != "vmbr1" || len(pinned.Appeared(f)) > 0 {
		t.Errorf("appeared: %v; beside a pinned uplink: %v", got, pinned.Appeared(f))
	}
	shown := f
	shown.Filters.BridgeIPv4 = true
	if got := p.Appeared(shown); len(got) != 1 || got[0].Name != "tun1" {
		t.Errorf("appeared beside br_netfilter: %v", got)
	}
	if got := strings.Join(p.UnreachedOf(shown), "\n"); !strings.Contains(got, "get no answers by bridge vmbr1, which came while its VMs run") {
		t.Errorf("notes %q", got)
	}
	if words := steptest.Script(mustPlan(t, p.Network, shown).Steps); !strings.Contains(words, `elements = { "vmbr1" . "vmbr1" }`) || !strings.Contains(words, "iifname . oifname @between_ports accept") {
		t.Errorf("a bridge that was there:\n%s", words)
	}
	for _, l := range got {
		p.AddUplink(f, l)
	}
	if !slices.Contains(p.Uplinks, "tun1") || !slices.Equal(p.Beside, []string{"vmbr1"}) || len(p.Appeared(f)) > 0 {
		t.Errorf("uplinks %v, beside them %v", p.Uplinks, p.Beside)
	}
}
