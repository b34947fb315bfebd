package vmdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lockfile"
)

// A VM's directory holds what was saved, is locked once, and is removed whole; what a link
// in it leads to stays.
func TestDirectory(t *testing.T) {
	vms := filepath.Join(t.TempDir(), "vms")
	d, err := New(vms, "web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load without a record: %v", err)
	}
	if list, err := List(vms); len(list) != 0 || err != nil {
		t.Errorf("list without VMs: %v, %v", list, err)
	}
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock(); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("second lock: %v", err)
	}
	want := Record{Profile: "/p/web.toml", LastRun: time.Unix(1e9, 0).UTC()}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load(); err != nil || got.Profile != want.Profile || !got.LastRun.Equal(want.LastRun) {
		t.Errorf("got %+v, %v", got, err)
	}
	outside := filepath.Join(t.TempDir(), "kept")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink(filepath.Dir(outside), d.File("tpm"))); err != nil {
		t.Fatal(err)
	}
	if list, err := List(vms); err != nil || len(list) != 1 || list[0].Name() != "web" {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := errors.Join(lock.Release(), d.Remove()); err != nil || d.Exists() {
		t.Errorf("remove: %v", err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestNameThatIsNone(t *testing.T) {
	for _, name := range []string{"", "..", "a/b", "Web"} {
		if _, err := New("/vms", name); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
