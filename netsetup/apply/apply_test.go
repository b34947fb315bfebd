package apply_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

const forwarding = "net/ipv4/conf/eth0/forwarding"

var (
	bridge = step.AddBridge{Name: "qn-dev", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1500, Alias: "qnet:dev"}
	rules  = step.AddTable{Table: nft.Table{Family: nft.INet, Name: "qnet_dev", Comment: "qnet:dev"}}
	hook   = step.AddTable{Table: nft.Table{Family: nft.NetDev, Name: "qnet_dev", Comment: "qnet:dev"}}
	addr   = step.AddAddr{Link: "qn-dev", Prefix: netip.MustParsePrefix("192.168.223.1/24")}
	sysctl = step.SetSysctl{Key: forwarding, Value: "1", Old: "0"}
	zone   = step.SetZone{Zone: firewalld.Zone{Name: "trusted", Link: "qn-dev"}}
	tap    = step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0", MTU: 1500}
)

// network is a list with a step of every kind that apply treats in its own way.
func network() []step.Step {
	return []step.Step{
		sysctl, bridge, rules, hook, addr,
		step.SetUp{Link: "qn-dev"},
		zone,
		tap,
		step.SetPort{Link: "qnweb0", Bridge: "qn-dev"},
		step.SetUp{Link: "qnweb0"},
	}
}

func start() map[string]string { return map[string]string{"link eth0": "", "/" + forwarding: "0"} }

// done is a host with the network, and how many calls that took.
func done(t *testing.T) (state map[string]string, calls int) {
	t.Helper()
	m := &steptest.Memory{State: start()}
	if err := apply.Do(t.Context(), m.Kernel(), network(), nil); err != nil {
		t.Fatal(err)
	}
	return m.State, m.Calls
}

func wantState(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if diff := steptest.Diff(want, got); diff != "" {
		t.Errorf("%s: the host differs:\n%s", what, diff)
	}
}

func TestDoSaysWhatItDid(t *testing.T) {
	m := &steptest.Memory{State: start()}
	var did []step.Step
	if err := apply.Do(t.Context(), m.Kernel(), network(), func(s step.Step) { did = append(did, s) }); err != nil {
		t.Fatal(err)
	}
	if steptest.Script(did) != steptest.Script(network()) {
		t.Errorf("did\n%s", steptest.Script(did))
	}
}

// Whichever call fails, before or after its change, the host is as before.
func TestDoUndoesAllWhenACallFails(t *testing.T) {
	_, calls := done(t)
	for call := 1; call <= calls; call++ {
		for _, after := range []bool{false, true} {
			m := &steptest.Memory{State: start(), Fail: call, After: after}
			err := apply.Do(t.Context(), m.Kernel(), network(), nil)
			var failed *apply.Error
			if !errors.As(err, &failed) || !errors.Is(failed, steptest.ErrInjected) || errors.Is(err, host.ErrLeft) {
				t.Errorf("call %d: %v", call, err)
			}
			if failed != nil && failed.Error() != failed.Err.Error() {
				t.Errorf("call %d: text %q", call, failed)
			}
			wantState(t, fmt.Sprintf("call %d, after=%v", call, after), m.State, start())
		}
	}
}

// A step that another program's object is in the way of is not undone: its Undo would find
// that object.
func TestDoLeavesTheObjectInTheWay(t *testing.T) {
	for alias, want := range map[string]string{"": `a tun of that name, alias ""`, "qnet:dev/web/0": "VMs of another run directory use it"} {
		m := &steptest.Memory{State: start()}
		m.State["link qnweb0"] = alias
		before := maps.Clone(m.State)
		err := apply.Do(t.Context(), m.Kernel(), network(), nil)
		if !errors.Is(err, host.ErrNotOurs) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		wantState(t, want, m.State, before)
	}
}

// The error of a failed step also says which undo failed.
func TestDoTellsWhatIsLeft(t *testing.T) {
	_, calls := done(t)
	m := &steptest.Memory{State: start(), Fail: calls, Times: 1000}
	err := apply.Do(t.Context(), m.Kernel(), network(), nil)
	var failed *apply.Error
	if !errors.As(err, &failed) || !errors.Is(err, host.ErrLeft) {
		t.Fatalf("got %v", err)
	}
	for _, s := range []step.Step{sysctl, bridge, tap} {
		if words, _, _ := strings.Cut(s.String(), "\n"); !strings.Contains(err.Error(), fmt.Sprintf("undo %q", words)) {
			t.Errorf("%q is not told:\n%v", words, err)
		}
	}
}

// silent are neighbours that never answer.
type silent struct{ asked chan<- bool }

func (s silent) Ask(ctx context.Context, _ string, _ []host.Neighbor, _ time.Duration) ([]host.Neighbor, error) {
	s.asked <- true
	<-ctx.Done()
	return nil, ctx.Err()
}

// When the context ends, the step that waits fails. The undo runs to its end.
func TestDoEndsWithItsContext(t *testing.T) {
	m := &steptest.Memory{State: start()}
	asked := make(chan bool, 1)
	k := m.Kernel()
	k.Neighbors = silent{asked}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	err := apply.Do(ctx, k, append(network(), step.AwaitAnswers{Link: "qn-dev"}), nil)
	if !errors.Is(err, context.Canceled) || errors.Is(err, host.ErrLeft) {
		t.Errorf("got %v", err)
	}
	wantState(t, "cancelled", m.State, start())
}

func TestSplitOptionalKeepsTheOrder(t *testing.T) {
	needed, optional := apply.SplitOptional([]step.Step{zone, bridge, step.AddAccept{}, tap})
	if !slices.Equal(names(needed), []string{"AddBridge", "AddTap"}) || !slices.Equal(names(optional), []string{"SetZone", "AddAccept"}) {
		t.Errorf("got %v and %v", names(needed), names(optional))
	}
}

func names(steps []step.Step) []string {
	var list []string
	for _, s := range steps {
		list = append(list, step.TypeName(s))
	}
	return list
}

// Adopt takes tables only, adds those that are gone, and stops at the first error.
func TestAdopt(t *testing.T) {
	m := &steptest.Memory{State: start()}
	if err := apply.Adopt(t.Context(), m.Kernel(), network()); err != nil {
		t.Fatal(err)
	}
	want := start()
	want["table qnet_devinet"], want["table qnet_devnetdev"] = "qnet:dev", "qnet:dev"
	wantState(t, "adopt", m.State, want)

	m = &steptest.Memory{State: start(), Fail: 1}
	if err := apply.Adopt(t.Context(), m.Kernel(), network()); !errors.Is(err, steptest.ErrInjected) || m.Calls != 1 {
		t.Errorf("%d calls, %v", m.Calls, err)
	}
}

// Drift tells what other programs did; a network as it was left has none.
func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		change func(state map[string]string)
		want   []string
	}{
		"nothing":        {func(map[string]string) {}, nil},
		"bridge deleted": {func(s map[string]string) { delete(s, "link qn-dev") }, []string{"bridge qn-dev is gone, or another program's by now: left as it is"}},
		"bridge made by another": {
			func(s map[string]string) { s["link qn-dev"] = "" },
			[]string{"bridge qn-dev is gone, or another program's by now: left as it is"},
		},
		"address": {func(s map[string]string) { s["addr 10.9.9.1/24@qn-dev"] = "yes" }, []string{"address 10.9.9.1/24 of bridge qn-dev was another program's, and goes with the bridge"}},
		"sysctl":  {func(s map[string]string) { s["/"+forwarding] = "2" }, []string{"sysctl " + forwarding + " was 0, was set to 1 by qnet and to 2 by another program: left as it is"}},
		"table":   {func(s map[string]string) { delete(s, "table qnet_devinet") }, []string{"nftables table inet qnet_dev is gone, or another program's by now: left as it is"}},
	} {
		state, _ := done(t)
		c.change(state)
		m := &steptest.Memory{State: state}
		if got := apply.Drift(t.Context(), m.Kernel(), network()); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// The addresses of a bridge that carries the host's go back to the NIC: they are no strangers.
func TestDriftOfABridgeThatCarriesTheHost(t *testing.T) {
	state, _ := done(t)
	state["addr 192.0.2.10/24@qn-dev"] = "yes"
	carries := bridge
	carries.Carries = "eth0"
	m := &steptest.Memory{State: state}
	if got := apply.Drift(t.Context(), m.Kernel(), []step.Step{carries}); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestErrorIsItsCause(t *testing.T) {
	err := error(&apply.Error{Step: tap, Err: host.ErrNoTun})
	if err.Error() != host.ErrNoTun.Error() || !errors.Is(err, host.ErrNoTun) {
		t.Errorf("got %v", err)
	}
}

var linkDNS = step.LinkDNS{Link: "qn-dev", NIC: "eth0", Settings: resolved.Settings{Servers: []resolved.Server{{Address: netip.MustParseAddr("192.0.2.53")}}}}
