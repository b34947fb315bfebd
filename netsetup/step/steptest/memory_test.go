package steptest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// Fail, Times and After say which calls fail, and whether they make their change.
func TestMemoryFails(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{}, Fail: 2, Times: 2}
	k := m.Kernel()
	for call, want := range map[int]bool{1: false, 2: true, 3: true, 4: false} {
		m.Calls = call - 1
		if err := k.SetUp(t.Context(), "eth0", true); errors.Is(err, steptest.ErrInjected) != want {
			t.Errorf("call %d: %v", call, err)
		}
	}
	for _, after := range []bool{false, true} {
		m := &steptest.Memory{State: map[string]string{}, Fail: 1, After: after}
		if err := m.Kernel().SetUp(t.Context(), "eth0", true); !errors.Is(err, steptest.ErrInjected) || (m.State["up eth0"] != "") != after {
			t.Errorf("after %t: %v, %v", after, m.State, err)
		}
	}
}

// A call whose context has ended changes nothing.
func TestMemoryEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &steptest.Memory{State: map[string]string{}}
	if err := m.Kernel().SetSysctl(ctx, "net/ipv4/ip_forward", "1"); !errors.Is(err, context.Canceled) || m.Calls+len(m.State) != 0 {
		t.Errorf("%v, %v", m.State, err)
	}
}

// A deleted link takes along what belongs to it, and nothing else.
func TestMemoryDeletesWithALink(t *testing.T) {
	m := steptest.Of(hosttest.Laptop())
	k := m.Kernel()
	before := len(m.State)
	steps := []step.Step{
		step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0"},
		step.SetUp{Link: "qnweb0"},
		step.SetPort{Link: "qnweb0", Bridge: "br0"},
		step.SetSysctl{Key: host.DisableIPv6Key("qnweb0"), Value: "1"},
	}
	for _, s := range steps {
		if err := s.Do(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.SetMTU(t.Context(), "qnweb0", 1400); err != nil {
		t.Fatal(err)
	}
	if l, ok, _ := k.Link(t.Context(), "qnweb0"); !ok || !l.Up || l.MTU != 1400 || l.Master == 0 {
		t.Errorf("link %+v, %t", l, ok)
	}
	if err := k.DelLinks(t.Context(), []string{"qnweb0", "gone"}); err != nil || len(m.State) != before {
		t.Errorf("%d entries, %d before: %v", len(m.State), before, err)
	}
}

// Of has the links, sysctls and DNS settings of the facts.
func TestOfFacts(t *testing.T) {
	f := hosttest.Settled()
	f.NIC.Client = managers.Client{Link: "eth0"}
	m := steptest.Of(f)
	for key, want := range map[string]string{
		"link eth0": "", "up eth0": "yes", "master eth2": "br0", "/" + host.ForwardingKey("tun0"): "1", "/" + host.DisableIPv6Key("eth0"): "0",
		"dns eth0": "resolvectl dns eth0 192.0.2.53\nresolvectl domain eth0 lan.example",
	} {
		if got, ok := m.State[key]; !ok || got != want {
			t.Errorf("%s: %q, %t", key, got, ok)
		}
	}
	if _, up := m.State["up eth1"]; up {
		t.Error("eth1 is up")
	}
}

func TestDiff(t *testing.T) {
	got := steptest.Diff(map[string]string{"a": "1", "b": "2"}, map[string]string{"b": "3", "c": ""})
	const want = `+ b = "3"
+ c = ""
- a = "1"
- b = "2"`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if d := steptest.Diff(nil, map[string]string{}); d != "" {
		t.Errorf("got %q", d)
	}
	if s := steptest.Script([]step.Step{step.SetUp{Link: "a"}, step.SetUp{Link: "b"}}); s != "ip link set a up\nip link set b up" {
		t.Errorf("got %q", s)
	}
}
