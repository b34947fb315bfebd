package lockfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTryReportsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "locks", "a")
	l, err := Wait(t.Context(), path)
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

// A wait ends with its context, or as soon as the holder releases the lock.
func TestWaitEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "locks", "a")
	synctest.Test(t, func(t *testing.T) {
		held, err := Try(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := Wait(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the lock is held: got %v, want the context's error", err)
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("the context ends after 3s, the wait after %v", waited)
		}
		if _, err := Wait(ctx, filepath.Join(filepath.Dir(path), "free")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context has ended before: got %v, want its error", err)
		}
		time.AfterFunc(time.Second, func() {
			if err := held.Release(); err != nil {
				t.Error(err)
			}
		})
		began = time.Now()
		l, err := Wait(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > time.Second+maxRetry {
			t.Errorf("the lock is free after 1s, the wait ends after %v", waited)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	})
}

// Many holders in turn, each removing the file: never two at once.
func TestExclusiveAcrossRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "locks", "a")
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				l, err := Wait(t.Context(), path)
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
