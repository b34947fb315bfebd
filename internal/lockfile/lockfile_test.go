package lockfile

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTryReportsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "locks", "a")
	l, err := Wait(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(path); !errors.Is(err, ErrHeld) {
		t.Fatalf("got %v, want ErrHeld", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(path))); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("run directory left behind: %v", err)
	}
}

// Many holders in turn, each removing the file: never two at once.
func TestExclusiveAcrossRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "locks", "a")
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				l, err := Wait(path)
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two holders at once")
				}
				entered.Add(1)
				inside.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entered.Load() != 1000 {
		t.Errorf("entered %d times, want 1000", entered.Load())
	}
}

func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "locks")
	held, err := Try(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "held" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Errorf("a directory that is gone: %v", err)
	}
}
