package upkeep

import (
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// systemd-networkd lets go of a NIC under its new name as well, until the move is undone. Other
// programs know the NIC by its index.
func TestLetGoAgain(t *testing.T) {
	old := managers.LetGo("eth0")
	for program, want := range map[managers.Program]int{managers.Networkd: 2, managers.NetworkManager: 0} {
		plans := plan.Plan{Client: managers.Client{Program: program, Link: "enp1s0"}, Steps: step.List{
			step.ConfigFile{Program: managers.Networkd, Path: "/run/shared"},
			step.ConfigFile{Program: managers.Networkd, Path: old.Path, Text: old.Text, NIC: true},
			step.MoveToBridge{Link: "enp1s0", Was: "eth0"},
		}}
		b := &base{Config: Config{Journal: &journal.Journal{Plan: plans}}}
		steps := b.letGoAgain("eth0")
		if len(steps) != want {
			t.Fatalf("%s: does %v", program, steps)
		}
		if want == 0 {
			continue
		}
		if f, ok := b.Journal.Plan.Steps[2].(step.ConfigFile); !ok || f.Path != managers.LetGo("enp1s0").Path || steps[0] != step.Step(f) || !f.NIC {
			t.Errorf("the plan has %v", b.Journal.Plan.Steps)
		}
		if len(plans.Steps) != 3 || !slices.Contains(b.Journal.Plan.Steps, plans.Steps[1]) {
			t.Error("the plan that others read has changed, or the old name's file is lost")
		}
		if again := b.letGoAgain("enp1s0"); again != nil {
			t.Errorf("not renamed, and does %v", again)
		}
	}
}
