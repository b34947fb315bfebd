package logfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A log that grows too long begins anew, and the one before is kept.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	log, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second := bytes.Repeat([]byte("a"), maxLog-1), []byte("bc")
	for _, b := range [][]byte{first, second} {
		if n, err := log.Write(b); n != len(b) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	for file, want := range map[string][]byte{path: second, path + ".1": first, secret: []byte("secret")} {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", file, len(got), err, len(want))
		}
	}
	if _, err := Open(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("a log below a file is opened")
	}
}
