package kernel

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/pinned"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// FIB.Lookup finds the route that the kernel finds, and pins are what their commands make.
func TestPinsEqualCommands(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `
ip link add qn-dev type bridge; ip link set qn-dev addrgenmode none up; ip addr add 10.77.0.1/24 dev qn-dev
ip route add 10.77.0.0/25 dev eth0; ip route add 10.77.0.10/32 dev eth0
ip route add 10.77.0.0/16 dev eth0 table 100
ip rule add priority 50 to 10.77.0.0/24 lookup 100`)
		machine := newHost(t)
		bridge, _, _ := machine.Link(t.Context(), "qn-dev")
		n := pinned.Network{Bridge: bridge.Index, Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1"), Guests: []netip.Addr{
			netip.MustParseAddr("10.77.0.10"), netip.MustParseAddr("10.77.0.200"),
		}}
		all, err := machine.FIB(t.Context(), n.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		need, _, _ := n.Needed(all)
		if want := (pinned.Pins{Guests: n.Guests, Rules: []int{49}}); !slices.Equal(need.Guests, want.Guests) || !slices.Equal(need.Rules, want.Rules) {
			t.Fatalf("got %v, want %v", need, want)
		}
		steps := need.Steps("qn-dev", n.Prefix)
		before := kernelState(t)
		if err := apply.Do(t.Context(), machine.Kernel(), steps, nil); err != nil {
			t.Fatal(err)
		}
		for _, g := range n.Guests {
			lab.Sh(t, "ip route get "+g.String()+" | grep 'dev qn-dev'")
		}
		lab.Sh(t, "ip route get 10.77.0.11 | grep 'dev eth0'") // who is no guest is not ours
		all, _ = machine.FIB(t.Context(), n.Prefix)
		if has, idle := n.Present(all); !slices.Equal(has.Guests, need.Guests) || !slices.Equal(has.Rules, need.Rules) || idle != nil {
			t.Errorf("there: %v, idle %v", has, idle)
		}
		for _, s := range steps {
			if holds, err := s.Holds(t.Context(), machine.Kernel()); !holds || err != nil {
				t.Errorf("%s: holds %v, %v", s, holds, err)
			}
		}
		byNetlink := kernelState(t)
		if err := apply.Undo(t.Context(), machine.Kernel(), steps); err != nil {
			t.Fatal(err)
		}
		if diff := difference(before, kernelState(t)); diff != "" {
			t.Errorf("left by Undo:\n%s", diff)
		}
		lab.Sh(t, steptest.Script(steps))
		if diff := difference(byNetlink, kernelState(t)); diff != "" {
			t.Errorf("-: by netlink, +: by the printed commands\n%s", diff)
		}
		// Without a journal: the rule by its mark.
		lab.Sh(t, "ip link set qn-dev alias qnet:dev")
		facts, err := host.ObserveNetwork()
		if err != nil {
			t.Fatal(err)
		}
		if err := journal.UndoByMarks(t.Context(), machine.Kernel(), facts, "dev"); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "! ip rule | grep 'proto 113'; ! ip route show table all | grep 'proto 113'")
	})
}
