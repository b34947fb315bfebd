package hardware

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/profiles"
)

// Host keys live as long as the disk that they are on: writing leaves it the same, a new
// file of the name does not. A disk that is thrown away lives for one run.
func TestKeysOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	started := time.Now()
	on := func(started time.Time, disks ...profiles.Disk) string {
		t.Helper()
		var files []Disk
		for range disks {
			files = append(files, Disk{File: open()})
		}
		got, err := (&Files{Disks: files}).KeysOn(&profiles.Profile{Disks: disks}, started)
		if err != nil || got == "" {
			t.Fatalf("%q, %v", got, err)
		}
		return got
	}
	kept := profiles.Disk{}
	first := on(started, kept)
	if _, err := open().WriteString("the guest writes"); err != nil {
		t.Fatal(err)
	}
	if again := on(started.Add(time.Hour), kept); again != first {
		t.Errorf("the same disk: %q, then %q", first, again)
	}
	if got := on(started, profiles.Disk{ReadOnly: true}, kept); got != first {
		t.Errorf("behind a seed: %q, want %q", got, first)
	}
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil { // beside it, so with another inode
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if got := on(started, kept); got == first {
		t.Errorf("a disk that replaced it: %q", got)
	}
	for name, disks := range map[string][]profiles.Disk{"snapshot": {{Snapshot: true}, kept}, "no disk": nil, "read-only": {{ReadOnly: true}}} {
		if a, b := on(started, disks...), on(started.Add(time.Second), disks...); a == b || a == first {
			t.Errorf("%s: %q, then %q", name, a, b)
		}
	}
}
