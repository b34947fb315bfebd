package qemu_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// startAuto returns the machine, its warnings and the error.
func startAuto(t *testing.T, c machine.Config, o qemu.StartOptions) (*qemu.VM, []string, error) {
	t.Helper()
	var warnings []string
	o.Warn = func(w string) { warnings = append(warnings, w) }
	c.Accel = machine.AccelAuto
	vm, err := qemu.StartAuto(t.Context(), c, o)
	if err == nil {
		tend(t, vm)
	}
	return vm, warnings, err
}

// kvmDevice stands in for /dev/kvm.
func kvmDevice(t *testing.T) qemu.StartOptions {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return qemu.StartOptions{}.WithKVM(path)
}

func TestAutoPrefersKVM(t *testing.T) {
	vm, warnings, err := startAuto(t, config(fake(t, "good")), kvmDevice(t))
	if err != nil {
		t.Fatal(err)
	}
	if vm.Accel() != machine.AccelKVM || len(warnings) != 0 {
		t.Errorf("got %s, %q, want kvm", vm.Accel(), warnings)
	}
}

func TestAutoFallsBack(t *testing.T) {
	for mode, want := range map[string]string{
		"kvm-abort":          "failed to set MSR",
		"kvm-abort-at-cont":  "failed to set MSR",
		"kvm-internal-error": "internal error",
	} {
		t.Run(mode, func(t *testing.T) {
			c := config(fake(t, mode))
			c.CPU = "host"
			vm, warnings, err := startAuto(t, c, kvmDevice(t))
			if err != nil {
				t.Fatal(err)
			}
			if vm.Accel() != machine.AccelTCG {
				t.Errorf("got %s, want tcg", vm.Accel())
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], want) || strings.Contains(warnings[0], "\n") {
				t.Errorf("got %q, want one line with %q", warnings, want)
			}
		})
	}
}

func TestAutoDoesNotRepeatAGuestThatEnded(t *testing.T) {
	vm, warnings, err := startAuto(t, config(fake(t, "kvm-poweroff")), kvmDevice(t))
	if err != nil {
		t.Fatal(err)
	}
	if s := vm.Wait(); !s.GuestShutdown || s.Code != 3 || vm.Accel() != machine.AccelKVM || len(warnings) != 0 {
		t.Errorf("got %+v, %s, %q, want the first guest's end", s, vm.Accel(), warnings)
	}
}

func TestAutoWithoutKVM(t *testing.T) {
	o := qemu.StartOptions{}.WithKVM("/nonexistent/kvm")
	vm, warnings, err := startAuto(t, config(fake(t, "good")), o)
	if err != nil {
		t.Fatal(err)
	}
	if vm.Accel() != machine.AccelTCG || len(warnings) != 1 || !strings.Contains(warnings[0], "/nonexistent/kvm") {
		t.Errorf("got %s, %q, want tcg and one warning", vm.Accel(), warnings)
	}
}

func TestAutoErrorThatIsNotKVMs(t *testing.T) {
	_, warnings, err := startAuto(t, config(script(t, "echo no disk >&2; exit 1")), kvmDevice(t))
	var died *qemu.ExitError
	if !errors.As(err, &died) || len(warnings) != 0 {
		t.Errorf("got %v, %q, want QEMU's error and no warning about KVM", err, warnings)
	}
}

// TestAutoWithTheRealQEMU works with and without KVM, with a disk whose locks
// and a file whose descriptor both starts use.
func TestAutoWithTheRealQEMU(t *testing.T) {
	c := config(requireQEMU(t))
	c.Disks = []machine.Disk{{File: image(t, make([]byte, 1<<20)), Format: "raw"}}
	c.NICs = []machine.NIC{{MAC: mac, User: true}}
	vm, warnings, err := startAuto(t, c, qemu.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if (vm.Accel() == machine.AccelTCG) != (len(warnings) == 1) {
		t.Errorf("got %s with warnings %q", vm.Accel(), warnings)
	}
	t.Log(vm.Accel(), warnings)

	working := c.Binary
	c.Binary = script(t, `case "$*" in *"-accel kvm"*) echo "cannot do it" >&2; exit 1;; esac; exec `+working+` "$@"`)
	c.Disks[0].File = image(t, make([]byte, 1<<20))
	vm, warnings, err = startAuto(t, c, kvmDevice(t))
	if err != nil {
		t.Fatal(err)
	}
	if vm.Accel() != machine.AccelTCG || len(warnings) != 1 {
		t.Errorf("got %s with warnings %q, want tcg", vm.Accel(), warnings)
	}
}

// A QEMU that is not needed goes at once: one whose network was refused, or whose
// network turned out to be another than it was told.
func TestCloseOfAQEMUThatWaits(t *testing.T) {
	c := config(requireQEMU(t))
	c.Accel = machine.AccelTCG
	c.NICs = []machine.NIC{{MAC: mac, User: true}}
	l, err := qemu.Launch(c, qemu.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}
