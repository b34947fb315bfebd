package virtiofs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// files are the capabilities by which the guest's root can do with the caller's files what
// the caller can do, such as to read one whose permissions say that not even its owner may.
// In a user namespace they reach files of its one user only (capable_wrt_inode_uidgid in
// kernel/capability.c).
var files = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID}

// insisted are what the program in C does not start without: it gives them up itself, as
// its options say.
var insisted = []int{unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP}

// staged are the stage's.
var staged = append(append([]int{unix.CAP_SYS_ADMIN}, insisted...), files...)

// rights returns the capabilities with which the program is started.
func (d dialect) rights() []int {
	if d == cProgram {
		return append(append([]int{}, insisted...), files...)
	}
	return files
}

// giveUp leaves the calling thread the capabilities, and nothing to gain others by.
func giveUp(keep []int) error {
	var mask uint64
	for _, c := range keep {
		mask |= 1 << c
	}
	if err := confine.DropBounding(mask); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: uint32(mask), Permitted: uint32(mask), Inheritable: uint32(mask)}, {}} // all are below 32
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	for _, c := range keep {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("keep capability %d: %w", c, err)
		}
	}
	return nil
}
