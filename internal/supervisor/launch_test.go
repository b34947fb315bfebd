package supervisor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

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

func TestGuestMTU(t *testing.T) {
	for _, c := range []struct {
		nic       profiles.NIC
		mtu, want int
	}{
		{profiles.NIC{Mode: profiles.Private, Model: qemu.VirtioNet}, 9000, 9000},
		{profiles.NIC{Mode: profiles.NAT, Model: qemu.VirtioNet}, 576, 576},
		{profiles.NIC{Mode: profiles.NAT, Model: qemu.VirtioNet}, 1500, 0},
		{profiles.NIC{Mode: profiles.NAT, Model: qemu.VirtioNet}, 0, 0}, // not known yet
		{profiles.NIC{Mode: profiles.Bridge, Model: qemu.VirtioNet}, 9000, 0},
		{profiles.NIC{Mode: profiles.HostOnly, Model: "e1000e"}, 9000, 0},
	} {
		if got := guestMTU(c.nic, c.mtu); got != c.want {
			t.Errorf("%+v on a network with %d: got %d, want %d", c.nic, c.mtu, got, c.want)
		}
	}
}
