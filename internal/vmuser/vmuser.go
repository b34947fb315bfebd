// Package vmuser says which user QEMU, and the programs that it needs, run as.
package vmuser

import (
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/qemu/program"
)

// firstUID begins the user ids of root's own VMs. From here to 2147483647 no user and no
// container has one, by what systemd documents (UIDS-GIDS.md).
const (
	firstUID = 0x70000000
	lastUIDs = 0x0fffffff
	nobody   = 65534
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
		c = &program.Credential{UID: ownUID(vm), GID: ownUID(vm)}
		if !c.Mapped() {
			c.UID, c.GID = nobody, nobody
		}
	default:
		return nil
	}
	c.Groups = KVMGroup()
	return c
}

// ownUID is the user of root's VM of that name. It is the same for each run, since a TPM's
// state belongs to it.
func ownUID(vm string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(vm))
	return firstUID + h.Sum32()&lastUIDs
}

// KVMGroup returns the group that may use /dev/kvm, if there is one but root's.
func KVMGroup() []uint32 {
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) != nil || st.Gid == 0 {
		return nil
	}
	return []uint32{st.Gid}
}
