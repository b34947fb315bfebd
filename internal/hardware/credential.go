package hardware

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/qemu/program"
)

// Credential returns the user that QEMU runs as: u, the user behind sudo; if there is
// none, "nobody" for root, and nil, the caller, for others. Both u and "nobody" get
// the group of /dev/kvm.
func Credential(u *asuser.User) *program.Credential {
	const nobody = 65534
	var c *program.Credential
	switch {
	case u != nil:
		c = &program.Credential{UID: u.UID, GID: u.GID, Groups: append([]uint32{}, u.Groups...)}
	case os.Geteuid() == 0:
		c = &program.Credential{UID: nobody, GID: nobody}
	default:
		return nil
	}
	c.Groups = append(c.Groups, KVMGroup()...)
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
