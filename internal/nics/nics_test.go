package nics

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// mixed is a profile with NICs of every kind.
func mixed() *profiles.Profile {
	return &profiles.Profile{
		Name: "a", CPUs: 4, Accel: profiles.AccelKVM,
		NICs: []profiles.NIC{
			{Mode: profiles.NAT, Network: "dev", Model: machine.VirtioNet},
			{Mode: profiles.None, Model: machine.VirtioNet},
			{Mode: profiles.User, Model: machine.VirtioNet, MAC: []byte{2, 0, 0, 0, 0, 7}},
			{Mode: profiles.Private, Network: "p", Model: "e1000e"},
			{Mode: profiles.NAT, Network: "dev", Model: machine.VirtioNet},
		},
		Networks: map[string]profiles.Network{"dev": {Name: "dev", Mode: profiles.NAT}, "p": {Name: "p", Mode: profiles.Private}},
	}
}

// A host without vhost is left to QEMU; with it, each queue has a file of its own.
func TestOpenVHost(t *testing.T) {
	device := filepath.Join(t.TempDir(), "vhost-net")
	if files := openVHost(device, 4); len(files) != 0 {
		t.Errorf("%d files of no device", len(files))
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files := openVHost(device, 4)
	if len(files) != 4 {
		t.Errorf("got %d files, want 4", len(files))
	}
	for _, f := range files {
		f.Close()
	}
}

func TestVHostQueues(t *testing.T) {
	virtio := profiles.NIC{Mode: profiles.NAT, Network: "dev", Model: machine.VirtioNet}
	for name, c := range map[string]struct {
		change func(*profiles.Profile, *profiles.NIC)
		want   int
	}{
		"kvm":   {func(*profiles.Profile, *profiles.NIC) {}, 4},
		"auto":  {func(p *profiles.Profile, _ *profiles.NIC) { p.Accel = profiles.AccelAuto }, 4},
		"tcg":   {func(p *profiles.Profile, _ *profiles.NIC) { p.Accel = profiles.AccelTCG }, 0},
		"many":  {func(p *profiles.Profile, _ *profiles.NIC) { p.CPUs = 64 }, machine.MaxQueues},
		"model": {func(_ *profiles.Profile, n *profiles.NIC) { n.Model = "e1000" }, 0},
		"macvtap": {func(p *profiles.Profile, _ *profiles.NIC) {
			p.Networks["p"] = profiles.Network{Name: "p", Macvtap: true}
		}, 0},
	} {
		p, n := mixed(), virtio
		c.change(p, &n)
		if got := vhostQueues(p, n); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	p := mixed()
	p.Accel = profiles.AccelTCG
	got := Plan(p, func(network string) int { return len(network) })
	if len(got) != 3 || got[0].MTU != 3 || got[3].MTU != 1 || len(got[4].Taps) != 1 || got[0].VHost != nil {
		t.Errorf("got %+v", got)
	}
	if planVHost(filepath.Join(t.TempDir(), "vhost-net")) {
		t.Error("no device counts as one")
	}
}
