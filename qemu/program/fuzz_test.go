package program

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoader reads any file as a program: nothing panics, and no path is longer than a path can be.
func FuzzLoader(f *testing.F) {
	if exe, err := os.Open("/bin/sh"); err == nil {
		start := make([]byte, 1024)
		exe.ReadAt(start, 0)
		exe.Close()
		f.Add(start)
	}
	f.Add([]byte("#!/bin/sh\n"))
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "program")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
		if loader, err := Loader(path); len(loader) > longestPath || err != nil && loader != "" {
			t.Errorf("got %d bytes, %v", len(loader), err)
		}
		if words := interpreter(path); len(words) > 4*longestPath+100 {
			t.Errorf("got %d bytes of words", len(words))
		}
	})
}
