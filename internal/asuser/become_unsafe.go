package asuser

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become gives the calling thread the user's rights to files. It uses raw system calls,
// because the functions of package syscall change all threads.
func (u *User) become() error {
	groups := append([]uint32{}, u.Groups...)
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); e != 0 {
		return fmt.Errorf("set groups: %w", e)
	}
	runtime.KeepAlive(groups)
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(u.GID), 0, 0) //nolint:errcheck // setfsgid(2) reports no error
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(u.UID), 0, 0) //nolint:errcheck // nor does setfsuid(2)
	// The calls report no failure. With an impossible id, setfsuid returns the current one.
	if now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(now) != u.UID {
		return fmt.Errorf("set fsuid %d: it still is %d", u.UID, now)
	}
	return nil
}
