package hardware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// golden makes a qcow2 base of a GiB.
func golden(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "golden.qcow2")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(qcow2.Make(f, 1<<30, nil), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// vmOn is a profile of a VM with two overlays on one base, and a disk that is made.
func vmOn(t *testing.T, name, base string) *profiles.Profile {
	t.Helper()
	data := filepath.Join(filepath.Dir(base), name+"-data.raw")
	text := fmt.Sprintf("name = %q\naccel = \"tcg\"\n[[disk]]\nbase = %[2]q\n[[disk]]\nbase = %[2]q\nsize = \"2GiB\"\nbus = \"sata\"\n[[disk]]\nfile = %[3]q\nformat = \"raw\"\ncreate = true\nsize = \"1GiB\"\n", name, base, data)
	p, err := profiles.Decode(strings.NewReader(text), filepath.Join(filepath.Dir(base), name+".toml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Twenty VMs begin on one base at once. Each has its own overlays, which rest on the base.
func TestManyOnOneBase(t *testing.T) {
	base, vms := golden(t), filepath.Join(t.TempDir(), "vms")
	var all sync.WaitGroup
	for i := range 20 {
		p := vmOn(t, fmt.Sprintf("vm%d", i), base)
		all.Go(func() {
			f, err := Open(t.Context(), p, Options{VMs: vms})
			if err != nil {
				t.Error(err)
				return
			}
			c := Config(p, nil, f, nil)
			c.NICs = nil
			if _, err := machine.Check(c); err != nil {
				t.Error(err)
			}
			if len(c.Disks) != 3 || c.Disks[0].Backing == nil || c.Disks[1].Bus != machine.BusSATA || c.Disks[2].Backing != nil || c.Disks[0].File.Name() == c.Disks[1].File.Name() {
				t.Errorf("disks %+v", c.Disks)
			}
			f.Close()
			if err := f.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	list, err := vmdir.List(vms)
	if err != nil || len(list) != 20 {
		t.Fatalf("%d VMs, %v", len(list), err)
	}
	for _, d := range list {
		r, err := d.Load()
		if err != nil || len(r.Bases) != 2 || r.Bases[0].Path != base || r.Bases[0].Digest == "" || r.Bases[1].Overlay != "disk-golden-2.qcow2" {
			t.Errorf("%s: %+v, %v", d.Name(), r, err)
		}
	}
}

// A VM that runs keeps its directory to itself, and one that failed leaves none.
func TestClaimOfDisks(t *testing.T) {
	base, vms := golden(t), filepath.Join(t.TempDir(), "vms")
	p := vmOn(t, "g", base)
	f, err := Open(t.Context(), p, Options{VMs: vms})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), p, Options{VMs: vms}); !errors.Is(err, vmdir.ErrInUse) {
		t.Errorf("a second run: %v", err)
	}
	f.Close()
	if err := f.Release(); err != nil {
		t.Fatal(err)
	}
	bad := vmOn(t, "bad", base)
	bad.Disks[2].File = filepath.Join(base, "no", "directory")
	if _, err := Open(t.Context(), bad, Options{VMs: vms}); err == nil {
		t.Error("a disk is made below a file")
	}
	if list, err := vmdir.List(vms); err != nil || len(list) != 1 {
		t.Errorf("left %v, %v", list, err)
	}
}

// A profile makes its disks of nothing outside its own folder, unless the user allows it.
func TestDisksReach(t *testing.T) {
	base, elsewhere := golden(t), golden(t)
	outside := filepath.Join(filepath.Dir(elsewhere), "made.raw")
	for name, change := range map[string]func(p *profiles.Profile){
		"disk[0].base": func(p *profiles.Profile) { p.Disks[0].Base = elsewhere },
		"disk[2].file": func(p *profiles.Profile) { p.Disks[2].File = outside },
		"image":        func(p *profiles.Profile) { p.Image.File = elsewhere },
	} {
		p := vmOn(t, "g", base)
		change(p)
		vms := filepath.Join(t.TempDir(), "vms")
		var bad *reachable.Error
		if _, err := Open(t.Context(), p, Options{VMs: vms}); !errors.As(err, &bad) || bad.Key != name {
			t.Errorf("%s: got %v", name, err)
		}
		if err := Refusal(p, Options{VMs: vms}); !errors.As(err, &bad) {
			t.Errorf("%s: plan: %v", name, err)
		}
		if _, err := os.Stat(outside); err == nil {
			t.Errorf("%s: made outside", name)
		}
		p.Allowed = []string{filepath.Dir(elsewhere)}
		f, err := Open(t.Context(), p, Options{VMs: vms, Images: filepath.Join(t.TempDir(), "images")})
		if err != nil {
			t.Errorf("%s: allowed: %v", name, err)
			continue
		}
		f.Close()
		if err := f.Release(); err != nil {
			t.Error(err)
		}
		os.Remove(outside)
	}
}

// What opened an image holds it, so that no qnet image prune removes it before the VM's record
// tells of it.
func TestImageIsHeld(t *testing.T) {
	base := golden(t)
	p := vmOn(t, "g", base)
	p.Image.File = base
	f, err := Open(t.Context(), p, Options{VMs: filepath.Join(t.TempDir(), "vms"), Images: filepath.Join(t.TempDir(), "images")})
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	remove := func() error { return unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
	if err := remove(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("nothing holds it: %v", err)
	}
	f.Close()
	if err := errors.Join(f.Release(), remove()); err != nil {
		t.Error(err)
	}
}

// A run that is refused leaves the record of the run before.
func TestRefusedRunIsNotRecorded(t *testing.T) {
	base, vms := golden(t), filepath.Join(t.TempDir(), "vms")
	p := vmOn(t, "g", base)
	p.Image.File = base
	o := Options{VMs: vms, Images: filepath.Join(t.TempDir(), "images")}
	f, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := f.Release(); err != nil {
		t.Fatal(err)
	}
	dir, err := vmdir.New(vms, "g")
	if err != nil {
		t.Fatal(err)
	}
	was, err := dir.Load()
	if err != nil {
		t.Fatal(err)
	}
	p.Image.File = filepath.Join(filepath.Dir(base), "other.qcow2")
	if _, err := Open(t.Context(), p, o); err == nil {
		t.Fatal("an overlay on one image was taken for one on another")
	}
	if is, err := dir.Load(); err != nil || !reflect.DeepEqual(is, was) {
		t.Errorf("got %+v, %v, want %+v", is, err, was)
	}
}

// A look makes nothing, and knows what a run would make.
func TestPlanDisks(t *testing.T) {
	base, vms := golden(t), filepath.Join(t.TempDir(), "vms")
	p := vmOn(t, "g", base)
	plan, err := PlanDisks(p, Options{VMs: vms})
	if err != nil || len(plan) != 3 || !plan[1].Missing || plan[1].Size != 2<<30 || plan[1].Base != base || plan[2].Base != "" {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if err := Refusal(p, Options{VMs: vms}); err != nil {
		t.Errorf("refusal: %v", err)
	}
	if _, err := os.Stat(vms); err == nil {
		t.Error("a plan made the directory of VMs")
	}
	if _, err := os.Stat(p.Disks[2].File); err == nil {
		t.Error("a plan made a disk")
	}
}
