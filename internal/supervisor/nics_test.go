package supervisor

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// mixed is a profile with a NIC of each kind: place 1 is none in QEMU.
func mixed() *profiles.Profile {
	return &profiles.Profile{
		Name: "a", Path: "/p/a.toml",
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

func TestPlaces(t *testing.T) {
	s := &session{profile: mixed()}
	for nic, want := range map[int]int{0: 0, 2: 1, 3: 2, 4: 3} {
		if got, ok := s.Place(nic); got != want || !ok {
			t.Errorf("NIC %d: got %d, %t, want %d", nic, got, ok, want)
		}
	}
	for _, nic := range []int{1, 5} {
		if _, ok := s.Place(nic); ok {
			t.Errorf("NIC %d has a place", nic)
		}
	}
	var names []string
	for _, n := range nics.NetworksOf(s.profile) {
		names = append(names, n.Name)
	}
	if !slices.Equal(names, []string{"dev", "p"}) {
		t.Errorf("networks %q", names)
	}
}

// What a keeper sees of a guest is in the VM's state, by the NIC's index.
func TestStateOfNICs(t *testing.T) {
	s := newSession(mixed(), Options{})
	s.describeNICs()
	s.portsChanged([]keeper.Port{{NIC: 3, Seen: guestwatch.State{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}}, {NIC: 9}})
	state := s.State()
	if len(state.NICs) != 5 || state.State != control.Starting {
		t.Fatalf("got %+v", state)
	}
	if n := state.NICs[3]; n.Network != "p" || n.Mode != profiles.Private || len(n.Addresses()) != 1 {
		t.Errorf("NIC 3: %+v", n)
	}
	if n := state.NICs[2]; n.MAC.String() != "02:00:00:00:00:07" || n.Network != "" || len(n.Addresses()) != 0 {
		t.Errorf("NIC 2: %+v", n)
	}
	if n := nics.NetworkOf(s.profile.Networks["dev"]); n.Name != "dev" || n.Mode != profiles.NAT {
		t.Errorf("network %+v", n)
	}
}
