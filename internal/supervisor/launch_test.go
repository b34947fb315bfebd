package supervisor

import (
	"os"
	"path/filepath"
	"testing"
)

// A host without vhost is left to QEMU; with it, each queue has a file of its own.
func TestOpenVHost(t *testing.T) {
	device := filepath.Join(t.TempDir(), "vhost-net")
	if files := openVHost(device, 4); len(files) != 0 {
		t.Errorf("%d files of no device", len(files))
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files := openVHost(device, 4)
	if len(files) != 4 {
		t.Errorf("got %d files, want 4", len(files))
	}
	for _, f := range files {
		f.Close()
	}
}
