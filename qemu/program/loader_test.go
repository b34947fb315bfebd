package program

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loaderByLibrary is Loader by the standard library.
func loaderByLibrary(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, _ := io.ReadAll(p.Open())
			return strings.TrimRight(string(text), "\x00")
		}
	}
	return ""
}

func TestLoader(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/bin/true", self} {
		if got, err := Loader(path); err != nil || got != loaderByLibrary(t, path) {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, loaderByLibrary(t, path))
		}
	}
	whole, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	far := bytes.Clone(whole[:4096])
	copy(far[32:], "\xff\xff\xff\xff\xff\xff\xff\xff") // where its segments are
	for name, text := range map[string][]byte{"empty": {}, "script": []byte("#!/bin/sh\n" + strings.Repeat("\n", 100)), "cut": whole[:80], "far": far} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := Loader(path); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if _, err := Loader("/nonexistent"); err == nil {
		t.Error("no error for a file that is not there")
	}
}
