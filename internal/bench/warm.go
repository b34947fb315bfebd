package main

import (
	"github.com/qnet-vm/qnet/internal/bench/contest"
	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// warm measures how soon a new VM has a shell by SSH: one that begins from a guest that was
// booted before for all of its profile, against the same one at its first boot. The first
// clone, whose run boots that guest, is not measured.
func (b *bench) warm() error {
	profile, err := b.debianProfile("deb", guestfiles.Debian{})
	if err != nil {
		return err
	}
	if _, err := b.shellOf("seed", profile, "--warm"); err != nil {
		return err
	}
	return b.Contest([]contest.Row{{What: "shell by SSH of a new VM that begins warm", Against: "its first boot", Unit: "ms", Most: 0.5}},
		func() ([]float64, error) { return b.shellOf("clone", profile, "--warm") },
		func() ([]float64, error) { return b.shellOf("cold", profile) })
}

// shellOf starts a new VM and returns the time until its shell, in ms. It removes the VM.
func (b *bench) shellOf(name, profile string, options ...string) ([]float64, error) {
	defer b.removeVM(name)
	args := append([]string{"run", "-d", "--name", name}, options...)
	took, err := b.untilShell(name, append(args, profile)...)
	return []float64{ms(took)}, err
}
