package journal

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/pinned"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/traced"
	"github.com/qnet-vm/qnet/profiles"
)

var subnet = netip.MustParsePrefix("192.168.223.0/24")

// natHost has a nat network dev with a VM, a probe's trace, a pin, firewalld and the managers'
// files, and beside it another network, lab, if that is set.
func natHost(t *testing.T, lab bool) (m *steptest.Memory, start map[string]string, f host.Facts) {
	t.Helper()
	f = hosttest.Laptop()
	f.Managers = managers.Programs
	f.Firewalld = firewalld.State{Running: true, Default: "public"}
	m = steptest.Of(f)
	f.Filters, _ = m.Kernel().ReadFilters(t.Context())
	p, err := plan.New(plan.Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, f, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	if lab {
		m.State["link qn-lab"] = "qnet:lab"
		m.State["rule 10.9.0.0/24"] = "iii"
		m.State["exit qn-lab"] = "11301 9 "
		f.Links = append(f.Links, host.Link{Index: 31, Name: "qn-lab", Kind: "bridge", Alias: "qnet:lab", Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}})
	}
	start = maps.Clone(m.State)
	nic := plan.NIC{VM: "web"}
	steps := slices.Concat(p.Steps, p.PortSteps(nic), traced.Steps(host.TapName(nic.VM, nic.Index), host.PortMark(p.Network.Name, nic.VM, nic.Index), netip.Addr{}, nil), pinned.Pins{Rules: []int{99}}.Steps(p.Bridge, p.Prefix),
		step.List{step.LeaveBy{Bridge: p.Bridge, Link: "eth0", Table: 11300, Priority: 7}})
	if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
		t.Fatal(err)
	}
	f.Links = append(f.Links,
		host.Link{Index: 30, Name: "qn-dev", Kind: "bridge", Alias: "qnet:dev", Ethernet: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.223.1/24")}},
		host.Link{Index: 32, Name: "qnweb0", Kind: "tun", Alias: "qnet:dev/web/0", Ethernet: true, Master: 30})
	f.Firewalld.Zones = map[string]string{"qn-dev": "trusted"}
	return m, start, f
}

// All that bears the network's marks goes; what bears no mark cannot be known, and what
// belongs to another network stays.
func TestUndoByMarks(t *testing.T) {
	for _, lab := range []bool{false, true} {
		m, start, f := natHost(t, lab)
		if err := UndoByMarks(t.Context(), m.Kernel(), f, "dev"); err != nil {
			t.Fatal(err)
		}
		for _, l := range f.Uplinks() {
			start["/"+host.ForwardingKey(l)] = "1"
		}
		if lab { // it still needs the managers' files
			for k, v := range m.State {
				if f, ok := managers.LeaveAlone(managers.Networkd); ok && k == "file "+f.Path {
					start[k] = v
				}
				if f, ok := managers.LeaveAlone(managers.NetworkManager); ok && k == "file "+f.Path {
					start[k] = v
				}
			}
		}
		if diff := steptest.Diff(start, m.State); diff != "" {
			t.Errorf("lab %t: left\n%s", lab, diff)
		}
	}
}

// A NIC that is a port of the network's bridge gets what the bridge has.
func TestUndoByMarksMovesBack(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		f := hosttest.Settled()
		m := steptest.Of(f)
		start := maps.Clone(m.State)
		m.State["link qn-lan"], m.State["host qn-lan"], m.State["master eth0"] = "qnet:lan", "moved", "qn-lan"
		if ipv6 {
			m.State["/"+host.DisableIPv6Key("qn-lan")], m.State["/"+host.DisableIPv6Key("eth0")] = "0", "1"
		}
		f.Links[1].Master = 30
		f.Links = append(f.Links, host.Link{Index: 30, Name: "qn-lan", Kind: "bridge", Alias: "qnet:lan", Ethernet: true})
		if err := UndoByMarks(t.Context(), m.Kernel(), f, "lan"); err != nil {
			t.Fatal(err)
		}
		if diff := steptest.Diff(start, m.State); diff != "" {
			t.Errorf("IPv6 %t: left\n%s", ipv6, diff)
		}
	}
}

type unreadFIB struct{ step.Pins }

func (unreadFIB) FIB(context.Context, netip.Prefix) (fib.FIB, error) {
	return fib.FIB{}, steptest.ErrInjected
}

// What cannot be read does not keep the rest from being undone.
func TestUndoByMarksGoesOn(t *testing.T) {
	m, _, f := natHost(t, false)
	k := m.Kernel()
	k.Pins = unreadFIB{k.Pins}
	if err := UndoByMarks(t.Context(), k, f, "dev"); !errors.Is(err, steptest.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if _, left := m.State["link qn-dev"]; left {
		t.Error("the bridge is left")
	}
}
