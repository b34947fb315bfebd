package supervisor

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// mixed is a profile with a NIC of each kind: place 1 is none in QEMU.
func mixed() *profiles.Profile {
	return &profiles.Profile{
		Name: "a", Path: "/p/a.toml", Memory: 64 << 20, CPUs: 4, Accel: profiles.AccelKVM, CPU: "host", Machine: "q35",
		Boot:  profiles.Boot{Kernel: "/k", Cmdline: "console=ttyS0"},
		Disks: []profiles.Disk{{File: "/d0", Format: "qcow2", Snapshot: true}, {File: "/d1", Format: "raw", ReadOnly: true}},
		NICs: []profiles.NIC{
			{Mode: profiles.NAT, Network: "dev", Model: qemu.VirtioNet},
			{Mode: profiles.None, Model: qemu.VirtioNet},
			{Mode: profiles.User, Model: qemu.VirtioNet, MAC: []byte{2, 0, 0, 0, 0, 7}},
			{Mode: profiles.Private, Network: "p", Model: "e1000e"},
			{Mode: profiles.NAT, Network: "dev", Model: qemu.VirtioNet},
		},
		Networks: map[string]profiles.Network{"dev": {Name: "dev", Mode: profiles.NAT}, "p": {Name: "p", Mode: profiles.Private}},
	}
}

// A plan has a place for each file that a run has.
func TestQEMUConfig(t *testing.T) {
	p, salt := mixed(), []byte("salt")
	file := os.Stderr
	taps := []*os.File{file, file}
	for name, c := range map[string]struct {
		files Files
		nics  map[int]qemu.NIC
	}{
		"run":  {Files{Kernel: file, Disks: []*os.File{file, file}}, map[int]qemu.NIC{0: {Taps: taps, VHost: taps, MTU: 9000}, 3: {Taps: taps[:1], MTU: 9000}, 4: {Taps: taps[:1]}}},
		"plan": {Files{}, map[int]qemu.NIC{0: {Taps: make([]*os.File, 2), VHost: make([]*os.File, 2), MTU: 9000}, 3: {Taps: make([]*os.File, 1), MTU: 9000}, 4: {Taps: make([]*os.File, 1)}}},
	} {
		got := QEMUConfig(p, salt, c.files, c.nics)
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
		if _, err := qemu.Command(got, nil, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVHostQueues(t *testing.T) {
	virtio := profiles.NIC{Mode: profiles.NAT, Network: "dev", Model: qemu.VirtioNet}
	for name, c := range map[string]struct {
		change func(*profiles.Profile, *profiles.NIC)
		want   int
	}{
		"kvm":   {func(*profiles.Profile, *profiles.NIC) {}, 4},
		"auto":  {func(p *profiles.Profile, _ *profiles.NIC) { p.Accel = profiles.AccelAuto }, 4},
		"tcg":   {func(p *profiles.Profile, _ *profiles.NIC) { p.Accel = profiles.AccelTCG }, 0},
		"many":  {func(p *profiles.Profile, _ *profiles.NIC) { p.CPUs = 64 }, qemu.MaxQueues},
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

func TestPlanNICs(t *testing.T) {
	p := mixed()
	p.Accel = profiles.AccelTCG
	got := PlanNICs(p, func(network string) int { return len(network) })
	if len(got) != 3 || got[0].MTU != 3 || got[3].MTU != 1 || len(got[4].Taps) != 1 || got[0].VHost != nil {
		t.Errorf("got %+v", got)
	}
	if planVHost(filepath.Join(t.TempDir(), "vhost-net")) {
		t.Error("no device counts as one")
	}
}

func TestPlaces(t *testing.T) {
	s := &session{profile: mixed()}
	for nic, want := range map[int]int{0: 0, 2: 1, 3: 2, 4: 3} {
		if got, ok := s.placeOf(nic); got != want || !ok {
			t.Errorf("NIC %d: got %d, %t, want %d", nic, got, ok, want)
		}
	}
	for _, nic := range []int{1, 5} {
		if _, ok := s.placeOf(nic); ok {
			t.Errorf("NIC %d has a place", nic)
		}
	}
	var names []string
	for _, n := range NetworksOf(s.profile) {
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
	if n := NetworkOf(s.profile.Networks["dev"]); n.Name != "dev" || n.Mode != profiles.NAT {
		t.Errorf("network %+v", n)
	}
}

// Only files and block devices are opened, and those of a plan not at all.
func TestOpener(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	var o opener
	defer o.close()
	if f, err := o.open("disk", "", os.O_RDONLY); f != nil || err != nil {
		t.Errorf("no path: %v, %v", f, err)
	}
	if f, err := o.open("disk", file, os.O_RDWR); f == nil || err != nil {
		t.Errorf("a file: %v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory", fifo: "neither a file nor a block device", "/dev/null": "neither a file nor a block device",
	} {
		_, err := o.open("disk", path, os.O_RDONLY)
		var bad *FileError
		if !errors.As(err, &bad) || bad.Path != path || bad.What != "disk" || bad.Err.Error() != want && bad.Err.Error() != "it is "+want {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if _, err := o.openAll(&profiles.Profile{Boot: profiles.Boot{Kernel: file, Initrd: filepath.Join(dir, "none")}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	p := &profiles.Profile{Boot: profiles.Boot{Kernel: file, Initrd: file}, Disks: []profiles.Disk{{File: file}, {File: file, Snapshot: true}}}
	if f, err := o.openAll(p); err != nil || f.Kernel == nil || f.Initrd == nil || len(f.Disks) != 2 {
		t.Errorf("got %+v, %v", f, err)
	}
}

// QEMU runs as the user behind sudo, never as root.
func TestCredential(t *testing.T) {
	if c := Credential(&asuser.User{UID: 7, GID: 8, Groups: []uint32{8, 9}}); c.UID != 7 || c.GID != 8 || !slices.Contains(c.Groups, 9) {
		t.Errorf("got %+v", c)
	}
	c := Credential(nil)
	if root := os.Geteuid() == 0; root && (c == nil || c.UID != 65534) || !root && c != nil {
		t.Errorf("without sudo: %+v", c)
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
			NICs:     []profiles.NIC{{Mode: c.mode, Network: "n", Model: qemu.VirtioNet}},
			Networks: map[string]profiles.Network{"n": {Name: "n", Mode: c.mode, PXE: profiles.PXE{File: c.pxe}}},
		}
		if got := QEMUConfig(p, nil, Files{}, nil).NICs[0]; got.NoROM == c.rom {
			t.Errorf("%+v: NoROM is %v", c, got.NoROM)
		}
	}
}
