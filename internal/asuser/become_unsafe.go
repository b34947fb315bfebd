package asuser

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become gives the calling thread the user's groups and real, effective and saved ids. It
// uses raw system calls, because the functions of package syscall change all threads.
//
// The fsuid alone would do for local files. A FUSE file system without allow_other
// compares all ids of the process with those of the mount's owner
// (fuse_permissible_uidgid in fs/fuse/dir.c).
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
	if _, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("keep capabilities: %w", e)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("set gid %d: %w", u.GID, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("set uid %d: %w", u.UID, e)
	}
	return limit()
}

// limit leaves the thread the two capabilities to change its ids, which give no right to
// any file. Drop, in another goroutine, changes the ids of all threads, also of one that
// is just ending: the runtime panics if a thread may not.
func limit() error {
	const ids = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: ids, Permitted: ids}}
	_, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if e != 0 {
		return fmt.Errorf("drop capabilities: %w", e)
	}
	return nil
}
