package main

import (
	"fmt"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// crowd is how many VMs of each build run in the last rows of before.
const crowd = 25

// before measures start and end of a VM against an earlier build of qnet: in each mode as
// the first VM of its network, and in nat as the second and where others run already.
// Each build has a network of its own, because the keeper of one would serve the other.
func (b *bench) before() error {
	for _, mode := range []string{"private", "host-only", "nat", "bridge"} {
		if err := b.cycleBefore("first VM of a "+mode+" network", rig.Spec{Mode: mode}); err != nil {
			return err
		}
	}
	earlier := b.earlierRig()
	var running []*rig.VM
	defer func() { rig.KillAll(running) }()
	for i := range crowd {
		for network, start := range map[string]rig.Start{"now": b.QnetVM, "before": earlier.QnetVM} {
			v, err := start(rig.Spec{Name: fmt.Sprintf("%s%d", network, i), Mode: "nat", Network: network, Halted: true})
			if err != nil {
				return err
			}
			running = append(running, v)
		}
		which := map[int]string{0: "second VM of a nat network", crowd - 1: fmt.Sprintf("VM %d of a nat network, beside another such network", crowd+1)}[i]
		if which == "" {
			continue
		}
		if err := b.cycleBefore(which, rig.Spec{Mode: "nat"}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) earlierRig() *rig.Rig {
	r := *b.Rig
	r.Qnet = b.earlier
	return &r
}

func (b *bench) cycleBefore(which string, s rig.Spec) error {
	rows := []contest.Row{
		{What: "launch, " + which, Against: "the qnet before", Unit: "ms", Most: 1},
		{What: "teardown from QEMU's exit, " + which, Against: "the qnet before", Unit: "ms", Most: 1},
		{What: "the same from the signal that ends QEMU", Against: "the qnet before", Unit: "ms"},
	}
	now, before := s, s
	now.Name, before.Name = "va", "vb"
	if s.Mode == "nat" {
		now.Network, before.Network = "now", "before"
	}
	return b.Contest(rows, around(b.QnetVM, now), around(b.earlierRig().QnetVM, before))
}
