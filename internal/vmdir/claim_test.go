package vmdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
)

// A user's directory is made also where only root may make it, with what is missing above it,
// which stays root's and lets the user pass. What the user may make is the user's.
func TestMakeForAnotherUser(t *testing.T) {
	lab.Require(t, lab.Root)
	user := &asuser.User{UID: 65534, GID: 65534, Groups: []uint32{65534}}
	roots, own := lab.Dir(t), lab.Dir(t)
	for dir, mode := range map[string]os.FileMode{roots: 0o755, own: 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(own, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(roots, "state/vms"), filepath.Join(own, "state/vms")} {
		if err := MakeFor(path, user); err != nil {
			t.Fatal(err)
		}
		if err := user.Do(func() error { return os.Mkdir(filepath.Join(path, "a"), 0o700) }); err != nil {
			t.Errorf("the user has no use of it: %v", err)
		}
		if err := MakeFor(path, user); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}
