package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// ticking is a guest that writes ten lines in a second.
const ticking = "while :; do echo tick; usleep 100000; done"

// states measures how soon a guest shows that it runs: one that was suspended against the
// same one that boots, both with an address in a nat network. And how long the suspend takes.
func (b *bench) states() error {
	profile := filepath.Join(b.Dir, "vs.toml")
	text := fmt.Sprintf("memory = \"192MiB\"\naccel = \"tcg\"\n[boot]\nkernel = %q\ninitrd = %q\ncmdline = %q\n[[nic]]\nmode = \"nat\"\n",
		b.Kernel(), b.Initrd(), "console=ttyS0 quiet qnet.net0=dhcp "+guestfiles.Script(ticking))
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		return err
	}
	rows := []contest.Row{{What: "resume of a suspended guest, until it writes", Against: "its boot", Unit: "ms", Most: 0.5}}
	err := b.Contest(rows, func() ([]float64, error) {
		if _, err := b.until("run", "-d", profile); err != nil {
			return nil, err
		}
		if _, err := rig.Run(b.Qnet, "suspend", "vs"); err != nil {
			return nil, err
		}
		return b.untilThenStop("resume", "vs")
	}, func() ([]float64, error) { return b.untilThenStop("run", "-d", profile) })
	if err != nil {
		return err
	}
	return b.Contest([]contest.Row{{What: "suspend of a guest that has booted, until nothing of it is left", Unit: "ms"}}, func() ([]float64, error) {
		if _, err := b.until("run", "-d", profile); err != nil {
			return nil, err
		}
		took, err := rig.Run(b.Qnet, "suspend", "vs")
		return []float64{ms(took)}, err
	}, nil)
}

// until runs qnet and returns the time until the guest has written.
func (b *bench) until(args ...string) (time.Duration, error) {
	log := filepath.Join(b.Dir, "state", "logs", "vs", "console.log")
	os.Remove(log)
	begin := time.Now()
	if _, err := rig.Run(append([]string{b.Qnet}, args...)...); err != nil {
		return 0, err
	}
	err := rig.Eventually("the guest writes", time.Minute, func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), "tick")
	})
	return time.Since(begin), err
}

func (b *bench) untilThenStop(args ...string) ([]float64, error) {
	took, err := b.until(args...)
	if err != nil {
		return nil, err
	}
	_, err = rig.Run(b.Qnet, "stop", "--force", "vs")
	return []float64{ms(took)}, err
}
