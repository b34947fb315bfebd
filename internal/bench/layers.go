package main

import (
	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// layers measures what a launch costs more because QEMU and its guest are confined: against
// --sandbox=off, which leaves QEMU its user without capabilities and its own filter, and
// against a NIC without a guard. It measures what forwarded ports cost, too.
func (b *bench) layers() error {
	for _, mode := range []string{"private", "nat"} {
		on := rig.Spec{Name: "va", Mode: mode}
		open, unguarded := on, on
		open.Name, open.Sandbox = "vb", "off"
		unguarded.Name, unguarded.Unguarded = "vb", true
		if err := b.layer("every layer around QEMU", mode, "--sandbox=off", 1.05, on, open); err != nil {
			return err
		}
		if err := b.layer("a guard", mode, "guard = \"off\"", 1.05, on, unguarded); err != nil {
			return err
		}
	}
	without := rig.Spec{Name: "vb", Mode: "nat"}
	with := without
	with.Name, with.Ports = "va", []string{"127.0.0.1:5201-5204:80-83", "*:5205-5208:80-83"} // half of them by DNAT, too
	return b.layer("eight ports", "nat", "none", 1.03, with, without)
}

// layer measures a launch with a layer, or more, against one without it.
func (b *bench) layer(what, mode, against string, most float64, with, without rig.Spec) error {
	rows := []contest.Row{
		{What: "launch with " + what + ", first VM of a " + mode + " network", Against: against, Unit: "ms", Most: most, Rounds: near},
		{What: "teardown from QEMU's exit, likewise", Against: against, Unit: "ms", Rounds: near},
		{What: "the same from the signal that ends QEMU", Against: against, Unit: "ms", Rounds: near},
	}
	return b.Contest(rows, around(b.QnetVM, with), around(b.QnetVM, without))
}
