package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// launch measures start and end of a VM against the recipe, in each mode, as the
// first and as the second of its network.
func (b *bench) launch() error {
	for _, mode := range []string{"private", "host-only", "nat", "bridge"} {
		if err := b.cycle(mode, true); err != nil {
			return err
		}
	}
	if err := b.Contest([]contest.Row{{What: "the kernel's part of any teardown: ip link del of a bare bridge", Unit: "ms"}}, delBridge, nil); err != nil {
		return err
	}
	qnet, err := b.QnetVM(rig.Spec{Name: "base1", Mode: "nat", Halted: true})
	if err != nil {
		return err
	}
	recipe, err := b.RecipeVM(rig.Spec{Name: "base2", Mode: "nat", Halted: true, First: true})
	if err != nil {
		return err
	}
	if err := b.cycle("nat", false); err != nil {
		return err
	}
	if _, _, err := recipe.Kill(); err != nil {
		return err
	}
	_, _, err = qnet.Kill()
	return err
}

func delBridge() ([]float64, error) {
	if err := rig.Sh("ip link add bare type bridge; ip link set bare up"); err != nil {
		return nil, err
	}
	took, err := rig.Run("ip", "link", "del", "bare")
	return []float64{ms(took)}, err
}

func (b *bench) cycle(mode string, first bool) error {
	which := "first VM of a " + mode + " network"
	if !first {
		which = "second VM of a " + mode + " network"
	}
	rows := []contest.Row{
		{What: "launch, " + which, Against: "recipe and raw QEMU", Unit: "ms", Most: 1},
		{What: "teardown from QEMU's exit, " + which, Against: "recipe", Unit: "ms", Most: 0.5},
		{What: "the same from the signal that ends QEMU", Against: "recipe", Unit: "ms"},
	}
	return b.Contest(rows,
		around(b.QnetVM, rig.Spec{Name: "va", Mode: mode, First: first}),
		around(b.RecipeVM, rig.Spec{Name: "vb", Mode: mode, First: first}))
}

// around starts a VM and ends it. It measures both, and that no link is left.
func around(start func(rig.Spec) (*rig.VM, error), s rig.Spec) contest.Side {
	return func() ([]float64, error) {
		before := links()
		v, err := start(s)
		if err != nil {
			return nil, err
		}
		fromSignal, fromExit, err := v.Kill()
		if after := links(); err == nil && after != before {
			err = fmt.Errorf("links were %s and are %s", before, after)
		}
		return []float64{ms(v.Running), ms(fromExit), ms(fromSignal)}, err
	}
}

// links are the host's, by name.
func links() string {
	entries, _ := os.ReadDir("/sys/class/net")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
