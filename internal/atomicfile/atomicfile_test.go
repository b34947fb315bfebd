package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A disk without room keeps the old text, and nothing of the new one.
func TestWriteOnAFullDisk(t *testing.T) {
	lab.Require(t, lab.Root)
	lab.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=16k"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		path := filepath.Join(dir, "f")
		if err := Write(path, []byte("old")); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, make([]byte, 1<<20)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("got %v", err)
		}
		left, _ := os.ReadDir(dir)
		if got, err := os.ReadFile(path); err != nil || string(got) != "old" || len(left) != 1 {
			t.Errorf("got %q, %v; left: %v", got, err, left)
		}
	})
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"first", "second"} {
		if err := Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file: got %v, want none", err)
	}
}

func TestWriteWithoutDirectory(t *testing.T) {
	err := Write(filepath.Join(t.TempDir(), "none", "f"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}
