// Package vmuser says which user QEMU, and the programs that it needs, run as.
package vmuser

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// Credential returns the user that QEMU runs the VM as: u, the user behind sudo; for root
// without one a user of the VM's own, so that VMs reach nothing of each other; and nil, the
// caller, for others. Its only supplementary group is that of /dev/kvm. In a user namespace
// that does not map the VM's own user it is "nobody".
func Credential(u *asuser.User, vm string) *program.Credential {
	var c *program.Credential
	switch {
	case u != nil:
		c = &program.Credential{UID: u.UID, GID: u.GID}
	case os.Geteuid() == 0:
		// The same for each run: a TPM's state belongs to it.
		c = &program.Credential{UID: confine.OwnUID(vm), GID: confine.OwnUID(vm)}
		if !c.Mapped() {
			c.UID, c.GID = confine.Nobody, confine.Nobody
		}
	default:
		return nil
	}
	c.Groups = KVMGroup()
	return c
}

// KVMGroup returns the group that may use /dev/kvm, if there is one but root's.
func KVMGroup() []uint32 {
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) != nil || st.Gid == 0 {
		return nil
	}
	return []uint32{st.Gid}
}
