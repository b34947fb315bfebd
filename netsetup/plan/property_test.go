package plan

import (
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// drawFacts is a host that is the laptop of the other tests, changed at random.
func drawFacts(t *rapid.T) host.Facts {
	f, settled := hosttest.Laptop(), rapid.Bool().Draw(t, "settled")
	if settled {
		f = hosttest.Settled()
	}
	f.HasIPv6 = rapid.Bool().Draw(t, "ipv6")
	if settled {
		f.NIC.Client = managers.Client{Link: "eth0", Program: rapid.SampledFrom([]managers.Program{
			"", managers.NetworkManager, managers.Networkd, managers.Dhcpcd, managers.Dhclient,
		}).Draw(t, "client")}
		if f.NIC.GenMode = ""; f.HasIPv6 { // without IPv6 there is no mode
			f.NIC.GenMode = rapid.SampledFrom([]string{"", "0"}).Draw(t, "genmode")
		}
	}
	f.Sysctls[host.IPForward] = rapid.SampledFrom([]string{"0", "1"}).Draw(t, "ip_forward")
	for i := range f.Links {
		l := &f.Links[i]
		f.Sysctls[host.ForwardingKey(l.Name)] = rapid.SampledFrom([]string{"0", "1"}).Draw(t, "forwarding")
		l.Up = rapid.Bool().Draw(t, "up")
		l.MTU = rapid.SampledFrom([]int{1280, 1500, 9000}).Draw(t, "mtu")
	}
	f.Managers = rapid.SliceOfDistinct(rapid.SampledFrom(managers.Programs), rapid.ID).Draw(t, "managers")
	if rapid.Bool().Draw(t, "firewalld") {
		f.Firewalld = firewalld.State{Running: true, Default: "public", Zones: map[string]string{
			rapid.SampledFrom([]string{"eth0", "eth1", "qn-dev"}).Draw(t, "link"): "home",
		}}
	}
	if f.HasIPv6 {
		f = hosttest.IPv6(f, rapid.Bool().Draw(t, "force_forwarding"))
		f.Sysctls[host.IPv6Key("all", host.Forwarding)] = rapid.SampledFrom([]string{"0", "1"}).Draw(t, "all.forwarding")
	}
	if rapid.Bool().Draw(t, "docker") {
		f.Filters = dockerAndUFW()
	}
	return f
}

// drawNetwork asks for anything, refused or not.
func drawNetwork(t *rapid.T) Network {
	return Network{
		Name:    rapid.SampledFrom([]string{"dev", "a-network-with-a-long-name", "x"}).Draw(t, "name"),
		Mode:    rapid.SampledFrom([]profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge, profiles.User}).Draw(t, "mode"),
		Uplink:  rapid.SampledFrom([]string{"", "", "eth0", "eth1", "br0", "wlan0", "tun0", "eth9", "lo"}).Draw(t, "uplink"),
		Macvtap: rapid.Bool().Draw(t, "macvtap"),
		IPv6:    rapid.Bool().Draw(t, "ipv6"),
		MTU:     rapid.SampledFrom([]int{0, 0, 0, 576, 1280, 9000, 100000}).Draw(t, "mtu"),
		Subnet: rapid.SampledFrom([]netip.Prefix{
			{}, {}, netip.MustParsePrefix("192.168.223.0/24"), netip.MustParsePrefix("172.17.0.0/20"),
		}).Draw(t, "subnet"),
	}
}

// drawSteps are the steps of a network and two NICs on a random host; none where the host's
// state forbids the network.
func drawSteps(t *rapid.T) (host.Facts, Plan, step.List) {
	f, n := drawFacts(t), drawNetwork(t)
	if up, ok := f.LANLink(n.Uplink); !n.Query().LAN || !ok || up.Name != "eth0" {
		f.NIC = host.NIC{} // host.Observe reads that of the link which the network joins
	}
	p, err := New(n, f, Options{Salt: hosttest.Salt})
	if errors.Is(err, host.ErrRefused) {
		t.Skip()
	}
	if err != nil {
		t.Fatal(err)
	}
	steps := slices.Clone(p.Steps)
	for i := range 2 {
		steps = append(steps, p.PortSteps(NIC{VM: "web", Index: i, MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}})...)
	}
	return f, p, steps
}

// Whatever network on whatever host: after its steps each of them holds, and their undo
// leaves the host as it was, also when one of the steps fails.
func TestUndoAfterDoIsTheHostAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, _, steps := drawSteps(t)
		m := steptest.Of(f)
		start := maps.Clone(m.State)
		if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
			t.Fatal(err)
		}
		for _, s := range steps {
			if holds, err := s.Holds(t.Context(), m.Kernel()); err != nil || !holds {
				t.Errorf("%s: holds %t, %v", s, holds, err)
			}
		}
		calls := m.Calls
		if err := apply.Undo(t.Context(), m.Kernel(), steps); err != nil {
			t.Error(err)
		}
		if diff := steptest.Diff(start, m.State); diff != "" {
			t.Errorf("undo leaves\n%s", diff)
		}
		if calls == 0 {
			return
		}
		m.Fail, m.After = m.Calls+rapid.IntRange(1, calls).Draw(t, "failing call"), rapid.Bool().Draw(t, "after")
		if err := apply.Do(t.Context(), m.Kernel(), steps, nil); !errors.Is(err, steptest.ErrInjected) || errors.Is(err, host.ErrLeft) {
			t.Errorf("got %v", err)
		}
		if diff := steptest.Diff(start, m.State); diff != "" {
			t.Errorf("a failed step leaves\n%s", diff)
		}
	})
}

// A plan is what the journal gives back, and has the order that doc.go promises.
func TestPlanIsDataInOrder(t *testing.T) {
	order := map[string]int{"ConfigFile": 0, "AddBridge": 1, "AddTable": 3, "AddAddr": 4, "SetZone": 7, "AddAccept": 7}
	rapid.Check(t, func(t *rapid.T) {
		_, p, _ := drawSteps(t)
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Plan
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(back); !reflect.DeepEqual(again, raw) {
			t.Errorf("got  %s\nwant %s", again, raw)
		}
		last, up := 0, -1
		for i, s := range p.Steps {
			if s, ok := s.(step.SetUp); ok && s.Link == p.Bridge {
				up = i
			}
			if c, ok := s.(step.ConfigFile); ok && c.NIC {
				continue // of 6
			}
			if rank, ok := order[step.TypeName(s)]; ok {
				if rank < last {
					t.Errorf("step %d, %s, comes too late", i, s)
				}
				last = rank
				if up >= 0 && rank == 3 {
					t.Errorf("step %d, %s, comes after the bridge is up", i, s)
				}
			}
		}
	})
}

// Where no other program filters, nothing is inserted anywhere.
func TestNoFiltersNoAccepts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, p, _ := drawSteps(t)
		if accepts, notes := p.AcceptSteps(filters.Ruleset{}, false); len(accepts) > 0 || len(notes) > 0 {
			t.Errorf("accepts %v, notes %q", accepts, notes)
		}
	})
}
