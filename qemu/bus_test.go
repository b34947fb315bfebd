package qemu_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// readOnly opens a file again, for reading only.
func readOnly(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// overlayOn returns an overlay of that size on a base, which states no base itself.
func overlayOn(t *testing.T, base *os.File, format string, size int64) machine.Disk {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := qcow2.Make(f, size, []byte("note")); err != nil {
		t.Fatal(err)
	}
	return machine.Disk{File: f, Format: "qcow2", Backing: base, BackingFormat: format}
}

// A machine has disks on all buses at once, each in its own slot, and CD-ROMs.
func TestBuses(t *testing.T) {
	binary := requireQEMU(t)
	for _, kind := range []string{"q35", "pc"} {
		c := config(binary)
		c.Machine = kind
		for i, bus := range []string{machine.BusVirtIO, machine.BusSCSI, machine.BusNVMe, machine.BusSATA, machine.BusUSB} {
			c.Disks = append(c.Disks, machine.Disk{File: image(t, make([]byte, 1<<20)), Format: "raw", Bus: bus, Serial: fmt.Sprintf("qnet-disk%d", i)})
		}
		for _, bus := range []string{machine.BusSCSI, machine.BusSATA, machine.BusUSB} {
			c.Disks = append(c.Disks, machine.Disk{File: readOnly(t, image(t, make([]byte, 1<<20)).Name()), Format: "raw", Bus: bus, CDROM: true, ReadOnly: true})
		}
		vm := start(t, c, qemu.StartOptions{})
		var seen string
		if err := vm.Monitor().Execute(t.Context(), "human-monitor-command", map[string]string{"command-line": "info block"}, &seen); err != nil {
			t.Fatal(err)
		}
		for i := range c.Disks {
			if !strings.Contains(seen, fmt.Sprintf("image%d", i)) {
				t.Errorf("%s: disk %d is missing:\n%s", kind, i, seen)
			}
		}
		var usb string
		if err := vm.Monitor().Execute(t.Context(), "human-monitor-command", map[string]string{"command-line": "info usb"}, &usb); err != nil || strings.Count(usb, "QEMU USB") != 2 {
			t.Errorf("%s: USB has %s, %v", kind, usb, err)
		}
		if got := strings.Count(seen, "Removable device: not locked"); got != 3 {
			t.Errorf("%s: got %d CD-ROMs:\n%s", kind, got, seen)
		}
	}
}

// The guest reads its base through an overlay, writes only into the overlay, and what it
// discards gives back the host's space.
func TestOverlayOnBase(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	binary := requireQEMU(t)
	base := image(t, bytes.Repeat([]byte{0x11}, 1<<20))
	d := overlayOn(t, readOnly(t, base.Name()), "raw", 3<<30)
	c := config(binary)
	c.Disks = []machine.Disk{d}
	run := func(commands ...string) {
		t.Helper()
		vm := start(t, c, qemu.StartOptions{})
		for _, command := range commands {
			qemuIO(t, vm, command)
		}
		stopped(t, vm, len(commands))
	}
	run("read -P 0x11 0 1M", "read -P 0 1M 1M", "write -P 0xab 64k 64k", "write -P 0xcd 2G 16M")
	if info, err := d.File.Stat(); err != nil || used(info) < 16<<20 {
		t.Errorf("%d bytes are used before a discard, %v", used(info), err)
	}
	run("read -P 0x11 0 64k", "read -P 0xab 64k 64k", "read -P 0x11 128k 64k", "read -P 0xcd 2G 16M", "discard 2G 16M", "read -P 0 2G 16M")
	if info, err := d.File.Stat(); err != nil || used(info) > 2<<20 {
		t.Errorf("%d bytes are used after a discard, %v", used(info), err)
	}
	if out, err := exec.Command("qemu-img", "check", d.File.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(base.Name())
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0x11}, 1<<20)) {
		t.Errorf("the base was changed: %v", err)
	}
}

// Two machines share a base; a base that one of them writes to is refused.
func TestSharedBase(t *testing.T) {
	binary := requireQEMU(t)
	base := image(t, bytes.Repeat([]byte{0x11}, 1<<20))
	one, two := config(binary), config(binary)
	one.Disks = []machine.Disk{overlayOn(t, readOnly(t, base.Name()), "raw", 1<<20)}
	two.Disks = []machine.Disk{overlayOn(t, readOnly(t, base.Name()), "raw", 1<<20)}
	start(t, one, qemu.StartOptions{})
	start(t, two, qemu.StartOptions{})
	third := config(binary)
	third.Disks = []machine.Disk{{File: base, Format: "raw"}}
	if _, err := machine.Check(third); err == nil || !strings.Contains(err.Error(), "it is in use by VM") {
		t.Errorf("a disk that others rest on: %v", err)
	}
	third.Disks = []machine.Disk{overlayOn(t, readOnly(t, base.Name()), "raw", 1<<20), {File: base, Format: "raw"}}
	if _, err := machine.Check(third); err == nil || !strings.Contains(err.Error(), "it is the same file as base") {
		t.Errorf("a base that is a disk: %v", err)
	}
}

// A guest reads through two layers, and writes into the uppermost only.
func TestOverlayOnOverlay(t *testing.T) {
	binary := requireQEMU(t)
	image := overlayOn(t, nil, "", 1<<20)
	middle := overlayOn(t, readOnly(t, image.File.Name()), "qcow2", 1<<20)
	top := overlayOn(t, readOnly(t, middle.File.Name()), "qcow2", 1<<20)
	top.Below = middle.Backing
	for _, c := range []struct {
		disk     machine.Disk
		commands []string
	}{
		{image, []string{"write -P 0x11 0 192k"}},
		{middle, []string{"read -P 0x11 0 192k", "write -P 0x22 64k 128k"}},
		{top, []string{"read -P 0x11 0 64k", "read -P 0x22 64k 128k", "write -P 0x33 128k 64k", "read -P 0x33 128k 64k"}},
		{middle, []string{"read -P 0x22 64k 128k"}},
	} {
		m := config(binary)
		m.Disks = []machine.Disk{c.disk}
		vm := start(t, m, qemu.StartOptions{})
		for _, command := range c.commands {
			qemuIO(t, vm, command)
		}
		stopped(t, vm, len(c.commands))
	}
	bad := config(binary)
	bad.Disks = []machine.Disk{{File: top.File, Format: "qcow2", Backing: middle.File, BackingFormat: "raw", Below: image.File}}
	if _, err := machine.Check(bad); err == nil || !strings.Contains(err.Error(), "a base of format \"raw\" has no base") {
		t.Errorf("got %v", err)
	}
}

// used returns how much of the host's disk a file takes, in bytes.
func used(info os.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Blocks * 512
}
