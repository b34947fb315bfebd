package hardware

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// seeded is a profile with [guest], and where its files are kept.
func seeded(t *testing.T) (*profiles.Profile, Options) {
	t.Helper()
	dir := t.TempDir()
	p := mixed()
	p.Path, p.Boot, p.Disks = filepath.Join(dir, "a.toml"), profiles.Boot{}, nil
	p.Guest = &profiles.Guest{User: "me", Password: "$6$salt$hash", Run: []string{"true"}}
	return p, Options{VMs: filepath.Join(dir, "vms"), Config: filepath.Join(dir, "config"), Images: filepath.Join(dir, "images")}
}

// A run gives the guest a disk behind all others and strings, by descriptors, and tells
// clients how to log in. A plan has the same command line, and makes nothing.
func TestSeed(t *testing.T) {
	p, o := seeded(t)
	planned := Config(p, nil, nil, nil)
	plan, err := PlanSeed(p, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(o.VMs)); err != nil || len(entries) != 0 {
		t.Errorf("a plan made %v, %v", entries, err)
	}
	f, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); f.Release() })
	if before := Config(p, nil, f, nil); len(before.Disks) != 0 || f.Guest() != nil {
		t.Errorf("before there is one: %+v, %+v", before.Disks, f.Guest())
	}
	if err := f.Seed(p, nil); err != nil {
		t.Fatal(err)
	}
	run := Config(p, nil, f, nil)
	if len(run.Disks) != 1 || len(planned.Disks) != 1 || !run.Disks[0].ReadOnly || len(run.Strings) == 0 || len(planned.Strings) == 0 {
		t.Errorf("run %+v, plan %+v", run, planned)
	}
	if _, err := machine.Check(machine.Config{Name: "a", Memory: 1 << 30, CPUs: 1, Accel: "tcg", Disks: run.Disks}); err != nil {
		t.Error(err)
	}
	g := f.Guest()
	if g.User != "me" || len(g.HostKeys) != 2 || g.Identity != o.Config+"/id_ed25519" || f.Kept.Record.User != "me" {
		t.Errorf("guest %+v, record %+v", g, f.Kept.Record)
	}
	later, err := PlanSeed(p, o, nil)
	if err != nil || later.InstanceID == plan.InstanceID || later.User != "me" {
		t.Errorf("plan %+v, before %+v, %v", later, plan, err)
	}
	text, err := json.Marshal(later)
	if err != nil || strings.Contains(string(text)+later.String(), "PRIVATE KEY") || strings.Contains(string(text)+later.String(), "$6$salt") {
		t.Errorf("the plan has secrets: %s", text)
	}
}

// A profile that says nothing of its guest gets nothing, and no directory.
func TestNoSeed(t *testing.T) {
	p, o := seeded(t)
	p.Guest = nil
	f, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Seed(p, nil); err != nil || f.Guest() != nil || f.Kept != nil {
		t.Errorf("%+v, %v", f.Guest(), err)
	}
	if c := Config(p, nil, f, nil); len(c.Disks) != 0 || c.Strings != nil || c.Blobs != nil {
		t.Errorf("got %+v", c)
	}
	if plan, err := PlanSeed(p, o, nil); plan != nil || err != nil {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if _, err := os.Stat(o.VMs); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of VMs: %v", err)
	}
}

// An Ignition config goes by the firmware's device.
func TestIgnition(t *testing.T) {
	p, o := seeded(t)
	p.Guest = &profiles.Guest{UserData: filepath.Join(filepath.Dir(p.Path), "x.ign")}
	if err := os.WriteFile(p.Guest.UserData, []byte(`{"ignition":{"version":"3.3.0"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); f.Release() })
	if err := f.Seed(p, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]machine.Config{"run": Config(p, nil, f, nil), "plan": Config(p, nil, nil, nil)} {
		if len(c.Disks) != 0 || len(c.Strings) != 0 || len(c.Blobs) != 1 || c.Blobs[0].Name != "opt/com.coreos/config" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if f.Guest().User != "core" {
		t.Errorf("guest %+v", f.Guest())
	}
}

// `qnet check` finds what is wrong in [guest]'s files.
func TestBadSeed(t *testing.T) {
	p, o := seeded(t)
	p.Guest.UserData = filepath.Join(filepath.Dir(p.Path), "data")
	if err := os.WriteFile(p.Guest.UserData, []byte("packages: [git]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *firstboot.Mistake
	if err := BadFiles(p, o); !errors.As(err, &bad) || !strings.Contains(err.Error(), "#cloud-config") {
		t.Errorf("got %v", err)
	}
}
