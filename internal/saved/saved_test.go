package saved

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

func place(t *testing.T) Place {
	t.Helper()
	dir, err := vmdir.New(t.TempDir(), "web")
	if err != nil {
		t.Fatal(err)
	}
	return Place{Dir: dir}
}

func image(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(_ context.Context, f *os.File) error {
	_, err := f.WriteString("memory")
	return err
}

// A state is kept whole, is found by the next run, and is gone once its guest goes on.
func TestStateOfAVM(t *testing.T) {
	p, disk := place(t), image(t)
	if _, ok, err := p.Load(); ok || err != nil {
		t.Fatalf("before: %t, %v", ok, err)
	}
	saved, err := p.Save(t.Context(), Record{Profile: "/p/web.toml", Extra: []string{"-x"}, Machine: Machine{Type: "pc-q35-7.2"}}, []*os.File{disk}, write)
	if err != nil || saved.Bytes != 6 || time.Since(saved.Saved) > time.Minute {
		t.Fatalf("got %+v, %v", saved, err)
	}
	r, ok, err := p.Load()
	if err != nil || !ok || r.Machine.Type != "pc-q35-7.2" || !slices.Equal(r.Extra, saved.Extra) || !slices.Equal(r.Disks, saved.Disks) {
		t.Errorf("got %+v, %t, %v", r, ok, err)
	}
	if err := p.Spend(); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := p.Load(); ok {
		t.Error("a state that was spent is found")
	}
	if err := p.Unspend(); err != nil {
		t.Fatal(err)
	}
	if found, err := Find(p, []*os.File{disk}); found == nil || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(p.Dir.File("*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// What was not saved whole is nothing, and a state of an earlier time goes with it.
func TestSaveFails(t *testing.T) {
	p := place(t)
	bad := errors.New("no space")
	_, err := p.Save(t.Context(), Record{}, nil, func(context.Context, *os.File) error { return bad })
	if _, ok, _ := p.Load(); ok || !errors.Is(err, bad) {
		t.Errorf("a state is there: %t, %v", ok, err)
	}
	if left, _ := filepath.Glob(p.Dir.File("*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// Each change of a disk is named.
func TestChangedDisks(t *testing.T) {
	p, disk := place(t), image(t)
	if _, err := p.Save(t.Context(), Record{}, []*os.File{disk}, write); err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(disk.Name()+".2", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for want, c := range map[string]struct {
		change func() error
		images []*os.File
	}{
		"has 2 disks, and had 1": {func() error { return nil }, []*os.File{disk, other}},
		"disk 0 is":              {func() error { return nil }, []*os.File{other}},
		"written to since":       {func() error { _, err := disk.WriteString("x"); return err }, []*os.File{disk}},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		_, err := Find(p, c.images)
		var unusable *Unusable
		if !errors.As(err, &unusable) || !strings.Contains(err.Error(), want) || !strings.Contains(unusable.Hint(), "--discard web") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := os.Rename(other.Name(), disk.Name()); err != nil {
		t.Fatal(err)
	}
	again, err := os.Open(disk.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := Find(p, []*os.File{again}); err == nil || !strings.Contains(err.Error(), "another file of the same name") {
		t.Errorf("a file in its place: %v", err)
	}
}

// A machine is the same, or what differs is named. Which queues and files it has on the host
// is no part of that under TCG.
func TestMachineDiffers(t *testing.T) {
	c := machine.Config{Name: "web", Memory: 64 << 20, CPUs: 1, Accel: machine.AccelTCG}
	m := Machine{Type: "pc-q35-7.2", Accel: machine.AccelTCG}
	m.Args, _ = Arguments(m.Config(c))
	if why, err := m.Differs(m.Config(c)); why != "" || err != nil {
		t.Errorf("the same: %q, %v", why, err)
	}
	if got := m.Config(c); !got.Incoming || got.Machine != "pc-q35-7.2" {
		t.Errorf("got %+v", got)
	}
	more := c
	more.Memory = 65 << 20
	if why, _ := m.Differs(m.Config(more)); !strings.Contains(why, "65M in place of 64M") {
		t.Errorf("more memory: %q", why)
	}
	more = c
	more.Disks = []machine.Disk{{Format: "raw"}}
	if why, _ := m.Differs(m.Config(more)); !strings.Contains(why, "in addition: ") {
		t.Errorf("a disk: %q", why)
	}
}

func TestCannot(t *testing.T) {
	f := image(t)
	for want, c := range map[string]struct {
		profile profiles.Profile
		config  machine.Config
	}{
		"":                {config: machine.Config{Disks: []machine.Disk{{File: f}, {File: f, Snapshot: true, ReadOnly: true}}}},
		"snapshot = true": {config: machine.Config{Disks: []machine.Disk{{File: f, Snapshot: true}}}},
		"shares folders":  {profile: profiles.Profile{Shares: []profiles.Share{{Path: "/p"}}}},
	} {
		if got := Cannot(&c.profile, c.config); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
