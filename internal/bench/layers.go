package main

import (
	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// layers measures what a launch costs more because QEMU and its guest are confined: against
// --sandbox=off, which leaves QEMU its user without capabilities and its own filter, and
// against a NIC without a guard.
func (b *bench) layers() error {
	for _, mode := range []string{"private", "nat"} {
		on := rig.Spec{Name: "va", Mode: mode}
		open, unguarded := on, on
		open.Name, open.Sandbox = "vb", "off"
		unguarded.Name, unguarded.Unguarded = "vb", true
		if err := b.layer("every layer around QEMU", mode, "--sandbox=off", on, open); err != nil {
			return err
		}
		if err := b.layer("a guard", mode, "guard = \"off\"", on, unguarded); err != nil {
			return err
		}
	}
	return nil
}

// layer measures a launch with a layer against one without it.
func (b *bench) layer(what, mode, against string, with, without rig.Spec) error {
	rows := []contest.Row{
		{What: "launch with " + what + ", first VM of a " + mode + " network", Against: against, Unit: "ms", Most: 1.05, Rounds: near},
		{What: "teardown from QEMU's exit, likewise", Against: against, Unit: "ms", Rounds: near},
		{What: "the same from the signal that ends QEMU", Against: against, Unit: "ms", Rounds: near},
	}
	return b.Contest(rows, around(b.QnetVM, with), around(b.QnetVM, without))
}
