package vmuser

import (
	"os"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/asuser"
)

// QEMU runs as the user behind sudo or, for root, as one of the VM's own, and never as root.
func TestCredential(t *testing.T) {
	if c := Credential(&asuser.User{UID: 7, GID: 8, Groups: []uint32{8, 9}}, "a"); c.UID != 7 || c.GID != 8 || slices.Contains(c.Groups, 9) {
		t.Errorf("got %+v", c)
	}
	a, again, b := Credential(nil, "a"), Credential(nil, "a"), Credential(nil, "b")
	switch {
	case os.Geteuid() != 0:
		if a != nil {
			t.Errorf("for a caller without rights: %+v", a)
		}
	case a.UID < 0x70000000 || a.UID > 0x7fffffff || a.GID != a.UID || a.UID != again.UID || a.UID == b.UID:
		t.Errorf("for root: %+v, %+v and, another VM's, %+v", a, again, b)
	}
}
