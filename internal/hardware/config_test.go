package hardware

import (
	"os"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// mixed is a profile with a NIC of each kind: place 1 is none in QEMU.
func mixed() *profiles.Profile {
	return &profiles.Profile{
		Name: "a", Path: "/p/a.toml", Memory: 64 << 20, CPUs: 4, Accel: profiles.AccelKVM, CPU: "host", Machine: "q35",
		Boot:  profiles.Boot{Kernel: "/k", Cmdline: "console=ttyS0"},
		Disks: []profiles.Disk{{File: "/d0", Format: "qcow2", Snapshot: true}, {File: "/d1", Format: "raw", ReadOnly: true}},
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

// A plan has a place for each file that a run has.
func TestConfig(t *testing.T) {
	p, salt := mixed(), []byte("salt")
	file := os.Stderr
	taps := []*os.File{file, file}
	for name, c := range map[string]struct {
		files *Files
		nics  map[int]machine.NIC
	}{
		"run":  {&Files{Kernel: file, Disks: []Disk{{File: file}, {File: file}}}, map[int]machine.NIC{0: {Taps: taps, VHost: taps, MTU: 9000}, 3: {Taps: taps[:1], MTU: 9000}, 4: {Taps: taps[:1]}}},
		"plan": {nil, map[int]machine.NIC{0: {Taps: make([]*os.File, 2), VHost: make([]*os.File, 2), MTU: 9000}, 3: {Taps: make([]*os.File, 1), MTU: 9000}, 4: {Taps: make([]*os.File, 1)}}},
	} {
		got := Config(p, salt, c.files, c.nics)
		if got.Kernel == nil || got.Initrd != nil || got.Cmdline != "console=ttyS0" || got.Accel != "kvm" || got.CPU != "host" || got.Memory != 64<<20 {
			t.Errorf("%s: %+v", name, got)
		}
		if len(got.Disks) != 2 || !got.Disks[0].Snapshot || !got.Disks[1].ReadOnly || got.Disks[0].File == nil || got.Disks[1].File == nil {
			t.Errorf("%s: disks %+v", name, got.Disks)
		}
		if len(got.NICs) != 4 || got.NICs[0].MTU != 9000 || len(got.NICs[0].VHost) != 2 || !got.NICs[1].User || got.NICs[2].MTU != 0 || got.NICs[2].Model != "e1000e" {
			t.Errorf("%s: NICs %+v", name, got.NICs)
		}
		if got.NICs[1].MAC.String() != "02:00:00:00:00:07" || got.NICs[0].MAC.String() == got.NICs[3].MAC.String() {
			t.Errorf("%s: MACs %v", name, got.NICs)
		}
		if _, err := machine.Command(got, nil, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The firmware gets a boot ROM where it may boot from the network.
func TestBootROM(t *testing.T) {
	disk := []profiles.Disk{{File: "/d", Format: "raw"}}
	for _, c := range []struct {
		mode   profiles.Mode
		kernel string
		disks  []profiles.Disk
		pxe    string
		rom    bool
	}{
		{profiles.NAT, "", nil, "", true},
		{profiles.User, "", nil, "", true},
		{profiles.NAT, "", disk, "", false},
		{profiles.HostOnly, "", disk, "", false},
		{profiles.User, "", disk, "", false},
		{profiles.NAT, "", disk, "pxelinux.0", true},
		{profiles.Bridge, "", disk, "", true},
		{profiles.Private, "", disk, "", true},
		{profiles.Bridge, "/k", nil, "", false},
	} {
		p := &profiles.Profile{
			Name: "a", Memory: 64 << 20, CPUs: 1, Accel: profiles.AccelTCG, Boot: profiles.Boot{Kernel: c.kernel}, Disks: c.disks,
			NICs:     []profiles.NIC{{Mode: c.mode, Network: "n", Model: machine.VirtioNet}},
			Networks: map[string]profiles.Network{"n": {Name: "n", Mode: c.mode, PXE: profiles.PXE{File: c.pxe}}},
		}
		if got := Config(p, nil, nil, nil).NICs[0]; got.NoROM == c.rom {
			t.Errorf("%+v: NoROM is %v", c, got.NoROM)
		}
	}
}

func TestGuestMTU(t *testing.T) {
	for _, c := range []struct {
		nic       profiles.NIC
		mtu, want int
	}{
		{profiles.NIC{Mode: profiles.Private, Model: machine.VirtioNet}, 9000, 9000},
		{profiles.NIC{Mode: profiles.NAT, Model: machine.VirtioNet}, 576, 576},
		{profiles.NIC{Mode: profiles.NAT, Model: machine.VirtioNet}, 1500, 0},
		{profiles.NIC{Mode: profiles.NAT, Model: machine.VirtioNet}, 0, 0}, // not known yet
		{profiles.NIC{Mode: profiles.Bridge, Model: machine.VirtioNet}, 9000, 0},
		{profiles.NIC{Mode: profiles.HostOnly, Model: "e1000e"}, 9000, 0},
	} {
		if got := guestMTU(c.nic, c.mtu); got != c.want {
			t.Errorf("%+v on a network with %d: got %d, want %d", c.nic, c.mtu, got, c.want)
		}
	}
}
