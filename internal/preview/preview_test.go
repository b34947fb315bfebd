package preview

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/profiles"
)

// A preview makes nothing, not even the salt, and its QEMU command has the profile's NICs.
func TestPreviewChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.toml")
	if err := os.WriteFile(path, []byte("memory = \"64MiB\"\n[[nic]]\nmode = \"user\"\n[[nic]]\nmode = \"none\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := profiles.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	run, err := New(t.Context(), p, hardware.Options{}, filepath.Join(dir, "run"), state)
	if err != nil {
		t.Fatal(err)
	}
	if run.Salted || len(run.Networks) != 0 || strings.Count(run.QEMU, "virtio-net-pci") != 1 || !strings.HasPrefix(run.QEMU, "qemu-system-x86_64 ") {
		t.Errorf("got %+v", run)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the state directory was made")
	}
}
