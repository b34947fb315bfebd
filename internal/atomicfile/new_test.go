package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A new file is whole or absent, and no older one is replaced.
func TestNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	broken := errors.New("broken")
	err := New(path, 0o600, func(f *os.File) error {
		_, err := f.WriteString("part")
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("a failure leaves %v", entries)
	}
	write := func(text string) func(*os.File) error {
		return func(f *os.File) error { _, err := f.WriteString(text); return err }
	}
	if err := New(path, 0o640, write("whole")); err != nil {
		t.Fatal(err)
	}
	if err := New(path, 0o600, write("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got %v, %v", info, err)
	}
	if b, _ := os.ReadFile(path); string(b) != "whole" {
		t.Errorf("got %q", b)
	}
}

// Of two that make the file at once, one does, and the other gets an error.
func TestNewTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	err := New(path, 0o600, func(*os.File) error {
		return New(path, 0o600, func(f *os.File) error { _, err := f.WriteString("first"); return err })
	})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "first" {
		t.Errorf("got %q", b)
	}
}

func TestNewWithoutDirectory(t *testing.T) {
	err := New(filepath.Join(t.TempDir(), "none", "f"), 0o600, func(*os.File) error { return nil })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}
