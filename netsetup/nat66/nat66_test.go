package nat66_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/nat66"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

func network(way nat66.Way) nat66.Network {
	return nat66.Network{Bridge: "qn-dev", Prefix: netip.MustParsePrefix("fd12:3456:789a:1::/64"), Uplinks: []string{"eth0"}, Way: way}
}

// memory is the host with the bridge of a network.
func memory(f host.Facts) *steptest.Memory {
	m := steptest.Of(f)
	m.State["link qn-dev"] = "qnet:dev"
	return m
}

func TestWayOf(t *testing.T) {
	older := hosttest.Facts("nat-ipv6-all")
	router := hosttest.Facts("nat-ipv6-all")
	router.Sysctls[host.IPv6Key("all", host.Forwarding)] = "1"
	odd := hosttest.Facts("nat-ipv6-all")
	odd.Routers6 = []string{"eth1"}
	for name, c := range map[string]struct {
		facts host.Facts
		want  nat66.Way
	}{
		"force_forwarding": {hosttest.Facts("nat-ipv6"), nat66.ByLink}, "an older kernel": {older, nat66.ByAll},
		"an older kernel of a router": {router, nat66.Already}, "one link that forwards": {odd, nat66.Not},
	} {
		if got := nat66.WayOf(c.facts); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if len(network(nat66.Not).Steps(odd)) > 0 {
		t.Error("steps where nothing may change")
	}
}

// The steps keep the host's default route by a router advertisement, and their undo gives every
// sysctl its value back, also where one of them fails.
func TestDefaultRouteIsKept(t *testing.T) {
	for way, name := range map[nat66.Way]string{nat66.ByLink: "nat-ipv6", nat66.ByAll: "nat-ipv6-all"} {
		f := hosttest.Facts(name)
		steps := network(way).Steps(f)
		m := memory(f)
		start := maps.Clone(m.State)
		if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
			t.Fatal(err)
		}
		ra := m.State["/"+host.IPv6Key("eth0", host.AcceptRA)]
		if want := map[nat66.Way]string{nat66.ByLink: "1", nat66.ByAll: "2"}[way]; ra != want {
			t.Errorf("%s: accept_ra=%s while it runs", way, ra)
		}
		before := -1
		for i, s := range steps {
			text := s.String()
			if at := strings.Index(text, "/forwarding=1"); at >= 0 {
				earlier := strings.Join(append(steptestLines(steps[:i]), text[:at]), "\n")
				if strings.LastIndex(earlier, "eth0/accept_ra=2") <= strings.LastIndex(earlier, "eth0/accept_ra=1") {
					t.Errorf("%s: forwarding=1 while accept_ra is 1:\n%s", way, earlier)
				}
				before = i
			}
		}
		if before < 0 {
			t.Errorf("%s: nothing forwards", way)
		}
		calls := m.Calls
		undone := func(what string) {
			t.Helper()
			delete(m.State, "/"+host.IPv6Key("qn-dev", host.ForceForwarding))
			delete(m.State, "/"+host.IPv6Key("qn-dev", host.Forwarding))
			delete(m.State, "/"+host.IPv6Key("qn-dev", host.Solicitations))
			if !maps.Equal(m.State, start) {
				t.Errorf("%s, %s: %s", way, what, steptest.Diff(start, m.State))
			}
		}
		if err := apply.Undo(t.Context(), m.Kernel(), steps); err != nil {
			t.Error(err)
		}
		undone("undone")
		for fail := 1; fail <= calls; fail++ {
			for _, after := range []bool{false, true} {
				m.Fail, m.After = m.Calls+fail, after
				if err := apply.Do(t.Context(), m.Kernel(), steps, nil); !errors.Is(err, steptest.ErrInjected) {
					t.Errorf("%s: call %d: %v", way, fail, err)
				}
				undone("a call failed")
			}
		}
	}
}

// Where another program makes all links forward meanwhile, that stays.
func TestForwardingOfOthersStays(t *testing.T) {
	f := hosttest.Facts("nat-ipv6-all")
	steps := network(nat66.ByAll).Steps(f)
	m := memory(f)
	if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
		t.Fatal(err)
	}
	all, defaults := "/"+host.IPv6Key("all", host.Forwarding), "/"+host.IPv6Key("default", host.Forwarding)
	if m.State[all] != "1" || m.State[defaults] != "0" {
		t.Errorf("all %s, default %s", m.State[all], m.State[defaults])
	}
	m.State[defaults] = "1" // as the kernel does at "sysctl net.ipv6.conf.all.forwarding=1"
	if err := apply.Undo(t.Context(), m.Kernel(), steps); err != nil || m.State[all] != "1" {
		t.Errorf("all %s, %v", m.State[all], err)
	}
}

// Guests have a router by the link by which the host's own packets leave, if they may leave by it.
func TestIsOutward(t *testing.T) {
	f := hosttest.Facts("nat-ipv6")
	for _, c := range []struct {
		way  nat66.Way
		only []string
		want bool
	}{{nat66.ByLink, nil, true}, {nat66.ByLink, []string{"eth1"}, false}, {nat66.ByAll, []string{"eth0"}, true}, {nat66.Not, nil, false}} {
		if got := nat66.IsOutward(f, c.way, c.only); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
	if nat66.IsOutward(hosttest.Laptop(), nat66.ByLink, nil) {
		t.Error("a host without a default route")
	}
}

// The end of a Do that was interrupted leaves accept_ra at 2, and Undo gives it back. It leaves
// one of the user's alone.
func TestBeRouterInterrupted(t *testing.T) {
	s := nat66.BeRouter{Bridge: "qn-dev", Hosts: []string{"eth0", "eth7"}}
	key := "/" + host.IPv6Key("eth0", host.AcceptRA)
	m := memory(hosttest.Facts("nat-ipv6"))
	m.State[key] = "2"
	if err := s.Undo(t.Context(), m.Kernel()); err != nil || m.State[key] != "1" {
		t.Errorf("accept_ra=%s, %v", m.State[key], err)
	}
	if err := s.Do(t.Context(), m.Kernel()); err != nil {
		t.Fatal(err)
	}
	if holds, err := s.Holds(t.Context(), m.Kernel()); err != nil || !holds {
		t.Errorf("holds %t, %v", holds, err)
	}
	m.State[key] = "2"
	if err := s.Undo(t.Context(), m.Kernel()); err != nil || m.State[key] != "2" {
		t.Errorf("the user's accept_ra=%s, %v", m.State[key], err)
	}
	if now := s.Renamed(func(l string) string { return l + "x" }).(nat66.BeRouter); !slices.Equal(now.Hosts, []string{"eth0x", "eth7x"}) || s.Hosts[0] != "eth0" {
		t.Errorf("renamed: %v", now)
	}
}

func steptestLines(steps step.List) []string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return lines
}
