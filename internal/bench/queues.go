package main

import (
	"fmt"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// queues measures the effect of a second queue. qnet makes none without vhost.
func (b *bench) queues() error {
	return b.twins("two queues", "one queue, 2 vCPUs, both hand-made taps", rig.Spec{CPUs: 2, Queues: 2}, rig.Spec{CPUs: 2})
}

// cpu measures the effect of the CPU model with which a guest under TCG does not copy
// byte by byte.
func (b *bench) cpu() error {
	return b.twins("CPU as qnet gives it", "-cpu max, both hand-made taps", rig.Spec{}, rig.Spec{Extra: []string{"-cpu", "max"}})
}

// twins compares two guests that differ in one thing, on taps of the recipe's bridge.
func (b *bench) twins(thing, against string, one, other rig.Spec) error {
	server, err := rig.Background(b.Wire, "serve", "0.0.0.0"+wirePort)
	if err != nil {
		return err
	}
	defer server.Stop()
	specs := []rig.Spec{other, one}
	for i := range specs {
		specs[i].Name, specs[i].Mode, specs[i].First = []string{"gc", "gd"}[i], "host-only", i == 0
		specs[i].Cmdline = fmt.Sprintf("qnet.net0=192.168.77.%d/24,192.168.77.1", 10+i)
	}
	guests, err := rig.Boot(b.RecipeVM, specs...)
	if err != nil {
		return err
	}
	defer rig.KillAll(guests)
	bridge := path{link: "eth0", gateway: "192.168.77.1"}
	return b.compare([]measurement{
		{contest.Row{What: thing + ", TCP, guest to host", Unit: "MB/s"}, "up", path.host},
		{contest.Row{What: thing + ", TCP, host to guest", Unit: "MB/s"}, "down", path.host},
		{contest.Row{What: thing + ", TCP request and response", Unit: "µs"}, "rr", path.host},
	}, against, end{guests[1], bridge}, end{guests[0], bridge})
}
