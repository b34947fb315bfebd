package qemu_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// qemuIO runs one command of qemu-io on the first disk, through its device,
// and fails the test if QEMU complains.
func qemuIO(t *testing.T, vm *qemu.VM, command string) {
	t.Helper()
	var out string
	args := map[string]string{"command-line": fmt.Sprintf("qemu-io -d /machine/peripheral/disk0/virtio-backend %q", command)}
	if err := vm.Monitor().Execute(t.Context(), "human-monitor-command", args, &out); err != nil || out != "" {
		t.Fatalf("%s: got %q, %v", command, out, err)
	}
}

// stopped ends the machine and checks what qemu-io said, which is on stdout.
func stopped(t *testing.T, vm *qemu.VM, ops int) {
	t.Helper()
	if err := vm.Stop(t.Context(), qemu.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	s := vm.Wait()
	if strings.Contains(s.Stderr, "failed") || strings.Count(s.Stderr, " ops; ") != ops {
		t.Errorf("got %s, want %d operations without a failure", s.Stderr, ops)
	}
}

func TestSnapshotOfRaw(t *testing.T) {
	binary := requireQEMU(t)
	const size = 3<<30 + 512 // several L1 entries, the last one in part
	base := image(t, bytes.Repeat([]byte{0x11}, 1<<20))
	if err := base.Truncate(size); err != nil {
		t.Fatal(err)
	}
	c := config(binary)
	c.Disks = []machine.Disk{{File: base, Format: "raw", Snapshot: true}}
	for range 2 { // the second machine sees nothing of the first
		vm := start(t, c, qemu.StartOptions{})
		qemuIO(t, vm, "read -P 0x11 0 1M")
		qemuIO(t, vm, "write -P 0xab 512 100k")
		qemuIO(t, vm, "read -P 0x11 0 512")
		qemuIO(t, vm, "read -P 0xab 512 100k")
		qemuIO(t, vm, fmt.Sprintf("read -P 0 %d 512", size-512))
		qemuIO(t, vm, fmt.Sprintf("write -P 0xcd %d 512", size-512))
		qemuIO(t, vm, fmt.Sprintf("read -P 0xcd %d 512", size-512))
		stopped(t, vm, 7)
	}
	got := make([]byte, 1<<20)
	if _, err := base.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{0x11}, 1<<20)) {
		t.Error("the disk itself was changed")
	}
}

func TestQcow2KeepsAndSnapshotDoesNot(t *testing.T) {
	lab.Require(t, lab.Root)
	binary := requireQEMU(t)
	disk, err := qcow2.NewOverlay(t.TempDir(), 1<<30) // any qcow2 image
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	run := func(d machine.Disk, commands ...string) {
		t.Helper()
		c := config(binary)
		c.Disks = []machine.Disk{d}
		vm := start(t, c, qemu.StartOptions{Credential: nobody}) // which could not open the file
		for _, command := range commands {
			qemuIO(t, vm, command)
		}
		stopped(t, vm, len(commands))
	}
	run(machine.Disk{File: disk, Format: "qcow2"}, "read -P 0 0 64k", "write -P 0x22 0 64k")
	run(machine.Disk{File: disk, Format: "qcow2", Snapshot: true}, "read -P 0x22 0 64k", "write -P 0x33 0 64k", "read -P 0x33 0 64k")
	run(machine.Disk{File: disk, Format: "qcow2"}, "read -P 0x22 0 64k")
	run(machine.Disk{File: disk, Format: "qcow2", ReadOnly: true}, "read -P 0x22 0 64k")
	readOnly, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", disk.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = readOnly.Close() }()
	run(machine.Disk{File: readOnly, Format: "qcow2", ReadOnly: true, Snapshot: true}, "read -P 0x22 0 64k")
}

// An image in use is refused before QEMU starts. Of two that start at once, QEMU refuses
// the second, which ends with the same error.
func TestDiskInUse(t *testing.T) {
	binary := requireQEMU(t)
	first := image(t, make([]byte, 1<<20))
	second, err := os.OpenFile(first.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	c, other := config(binary), config(binary)
	c.Disks = []machine.Disk{{File: first, Format: "raw"}}
	other.Disks = []machine.Disk{{File: image(t, make([]byte, 1<<20)), Format: "raw"}, {File: second, Format: "raw"}}
	late, err := qemu.Launch(other, qemu.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start(t, c, qemu.StartOptions{})
	if _, err := late.Start(t.Context()); !errors.Is(err, imagelock.ErrInUse) || !strings.Contains(err.Error(), first.Name()) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if _, err := qemu.Start(t.Context(), other, qemu.StartOptions{}); !errors.Is(err, imagelock.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	other.Disks[1].Snapshot = true
	if _, err := machine.Check(other); !errors.Is(err, imagelock.ErrInUse) {
		t.Errorf("a snapshot of a disk that another writes to: got %v, want ErrInUse", err)
	}
}

// A start checks the machine too: a disk may have changed since its caller did.
func TestStartRefusesABadDisk(t *testing.T) {
	c := config("qemu")
	c.Disks = []machine.Disk{{File: image(t, make([]byte, 4096)), Format: "qcow2"}}
	var bad *machine.ConfigError
	if _, err := qemu.Start(t.Context(), c, qemu.StartOptions{}); !errors.As(err, &bad) {
		t.Errorf("got %v, want a ConfigError", err)
	}
}

// QEMU's own words name the file in place of its descriptor.
func TestQEMUsWordsNameTheFile(t *testing.T) {
	disk := image(t, make([]byte, 1<<20))
	c := config(script(t, `echo 'q: cannot read [/dev/fdset/1] [/dev/fdset/11]' >&2; exit 1`))
	c.Disks = []machine.Disk{{File: disk, Format: "raw"}}
	if _, err := qemu.Start(t.Context(), c, qemu.StartOptions{}); err == nil || !strings.Contains(err.Error(), "["+disk.Name()+"] [/dev/fdset/11]") {
		t.Errorf("got %v", err)
	}
}
