package plan

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// goldenState is the host of hosttest.Facts, as steptest.Memory holds it.
func goldenState() map[string]string {
	state := map[string]string{
		"link eth0": "", "link eth1": "", "link tun0": "", "up eth0": "yes", "/" + host.ForwardingKey("eth0"): "0", "/net/ipv6/conf/eth0/disable_ipv6": "0",
		"/" + host.ForwardingKey("eth1"): "0", "/" + host.RPFilterKey("eth1"): "0", "dns eth0": linkDNS,
	}
	for key, value := range hosttest.Facts("nat-ipv6").Sysctls {
		if strings.HasPrefix(key, "net/ipv6/") {
			state["/"+key] = value
		}
	}
	return state
}

func steps(t *testing.T, golden string) []step.Step {
	t.Helper()
	n := goldenNetworks[golden]
	n.Name = "dev"
	facts := hosttest.Facts(golden)
	facts.Managers = managers.Programs
	facts.Filters, _ = (&steptest.Memory{}).Kernel().ReadFilters(t.Context()) // as Docker and ufw leave them
	p, err := New(n, facts, Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	nic := guarded(p)
	all := slices.Concat(p.Steps, p.PortSteps(nic))
	if p.Prefix.IsValid() {
		all = append(all, p.ForwardSteps(nic.Addresses[0], goldenForwards)...)
	}
	return all
}

// Whichever call fails, before or after its change, the host is as before, and the error has
// the cause.
func TestApplyFailingAtEachCall(t *testing.T) {
	for mode := range goldenNetworks {
		plan := steps(t, mode)
		start := goldenState()
		whole := &steptest.Memory{State: maps.Clone(start)}
		if err := apply.Do(t.Context(), whole.Kernel(), plan, nil); err != nil {
			t.Fatal(err)
		}
		for call := 1; call <= whole.Calls; call++ {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s, call %d, after=%v", mode, call, after)
				m := &steptest.Memory{State: maps.Clone(start), Fail: call, After: after}
				err := apply.Do(t.Context(), m.Kernel(), plan, nil)
				var failed *apply.Error
				if !errors.Is(err, steptest.ErrInjected) || !errors.As(err, &failed) {
					t.Errorf("%s: %v", name, err)
				}
				if !maps.Equal(m.State, start) {
					t.Errorf("%s: left\n%v", name, m.State)
				}
			}
		}
	}
}

// A step that cannot be undone does not keep the other steps from being undone.
func TestUndoGoesOnAfterAFailure(t *testing.T) {
	// The undo deletes links beside other calls. With one thread the calls have one order, so
	// that each has a number.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	plan := steps(t, "nat")
	start := map[string]string{"/" + host.ForwardingKey("eth0"): "0"}
	m := &steptest.Memory{State: maps.Clone(start)}
	if err := apply.Do(t.Context(), m.Kernel(), plan, nil); err != nil {
		t.Fatal(err)
	}
	applied, before := maps.Clone(m.State), m.Calls
	if err := apply.Undo(t.Context(), m.Kernel(), plan); err != nil {
		t.Fatal(err)
	}
	for call := before + 1; call <= m.Calls; call++ {
		once := &steptest.Memory{State: maps.Clone(applied), Calls: before, Fail: call}
		if err := apply.Undo(t.Context(), once.Kernel(), plan); err != nil || !maps.Equal(once.State, start) {
			t.Errorf("call %d fails once: left %v: %v", call, once.State, err)
		}
		again := &steptest.Memory{State: maps.Clone(applied), Calls: before, Fail: call, Times: 2}
		if err := apply.Undo(t.Context(), again.Kernel(), plan); !errors.Is(err, steptest.ErrInjected) {
			t.Errorf("call %d: %v", call, err)
		}
		want := m.Calls + 1
		if again.State["link qn-dev"]+again.State["link qnweb0"] != "" {
			want -= 2 // with a link of ours left, the two files stay
		}
		if again.Calls != want {
			t.Errorf("call %d failed: %d calls instead of %d", call, again.Calls, want)
		}
		if err := apply.Undo(t.Context(), again.Kernel(), plan); err != nil || !maps.Equal(again.State, start) {
			t.Errorf("call %d: a second undo leaves %v: %v", call, again.State, err)
		}
	}
}

// Undo respects what another program did meanwhile.
func TestUndoLeavesOthersAlone(t *testing.T) {
	plan := steps(t, "nat")
	m := &steptest.Memory{State: map[string]string{"/" + host.ForwardingKey("eth0"): "0"}}
	if err := apply.Do(t.Context(), m.Kernel(), plan, nil); err != nil {
		t.Fatal(err)
	}
	m.State["link qn-dev"] = "another program's"  // deleted and made anew
	m.State["/"+host.ForwardingKey("eth0")] = "0" // turned off
	if err := apply.Undo(t.Context(), m.Kernel(), plan); err != nil {
		t.Fatal(err)
	}
	if m.State["link qn-dev"] != "another program's" {
		t.Error("undo deleted another program's bridge")
	}
}

// linkDNS is the commands for the DNS settings of the NIC that moves.
var linkDNS = strings.Join(hosttest.Settled().NIC.DNS.Commands("eth0"), "\n")

func mendAll(t *testing.T, m *steptest.Memory, plan []step.Step) ([]step.Step, error) {
	t.Helper()
	seen, err := apply.TakeSnapshot(t.Context(), m.Kernel())
	if err != nil {
		t.Fatal(err)
	}
	return apply.Mend(t.Context(), seen, plan, func(step.Step) bool { return false })
}

// Whatever another program takes away of a network, Mend puts back, and changes nothing else.
// It returns apply.ErrLost for a tap.
func TestMend(t *testing.T) {
	for mode := range goldenNetworks {
		plan := steps(t, mode)
		start := goldenState()
		m := &steptest.Memory{State: maps.Clone(start)}
		if err := apply.Do(t.Context(), m.Kernel(), plan, nil); err != nil {
			t.Fatal(err)
		}
		whole := maps.Clone(m.State)
		for key, value := range whole {
			if start[key] == value || key == "link qnweb0" || strings.HasPrefix(key, "dns ") {
				continue
			}
			delete(m.State, key)
			mended, err := mendAll(t, m, plan)
			if err != nil || !maps.Equal(m.State, whole) || len(mended) == 0 {
				t.Errorf("%s without %q: mended %v, %v", mode, key, mended, err)
			}
		}
		if mended, err := mendAll(t, m, plan); err != nil || len(mended) != 0 {
			t.Errorf("%s: mended what was whole: %v, %v", mode, mended, err)
		}
		delete(m.State, "link qnweb0")
		if _, err := mendAll(t, m, plan); !errors.Is(err, apply.ErrLost) {
			t.Errorf("%s without the tap: %v", mode, err)
		}
	}
}
