// Package asuser does things with the rights of the user behind sudo, so that a
// profile names no file its author could not open, and QEMU runs as that user.
package asuser

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is who called sudo. A nil *User stands for the process's own user.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, the GID among them
}

// Lookup returns the user behind sudo, nil where there is none. SUDO_UID and
// SUDO_GID are believed only of root, whom nobody else can fake.
func Lookup(getenv func(string) string) (*User, error) {
	if os.Getuid() != 0 || os.Geteuid() != 0 || getenv("SUDO_UID") == "" {
		return nil, nil
	}
	uid, err := strconv.ParseUint(getenv("SUDO_UID"), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read SUDO_UID: %w", err)
	}
	gid, err := strconv.ParseUint(getenv("SUDO_GID"), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read SUDO_GID: %w", err)
	}
	if uid == 0 {
		return nil, nil // root's own sudo
	}
	u := &User{UID: uint32(uid), GID: uint32(gid), Groups: []uint32{uint32(gid)}}
	// A uid without an entry has no further groups.
	if entry, err := user.LookupId(strconv.FormatUint(uid, 10)); err == nil {
		ids, err := entry.GroupIds()
		if err != nil {
			return nil, fmt.Errorf("look up groups of %s: %w", entry.Username, err)
		}
		for _, id := range ids {
			if g, err := strconv.ParseUint(id, 10, 32); err == nil && uint32(g) != u.GID {
				u.Groups = append(u.Groups, uint32(g))
			}
		}
	}
	return u, nil
}

// Do runs f on a thread that has the user's rights to files: its fsuid, fsgid
// and groups, and so none of root's capabilities over files (capabilities(7)).
// The thread is thrown away afterwards. f must not start goroutines for the work.
func (u *User) Do(f func() error) error {
	if u == nil || isDropped() {
		return f()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := u.become(); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

func isDropped() bool {
	rights.Lock()
	defer rights.Unlock()
	return dropped != nil
}

// become uses raw system calls, which change one thread; those of package
// syscall change them all.
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
	// The calls report no failure; asking with an impossible id tells what holds.
	if now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(now) != u.UID {
		return fmt.Errorf("set fsuid %d: it still is %d", u.UID, now)
	}
	return nil
}

// rights guards the process's effective user, which Drop and AsRoot change.
var (
	rights  sync.Mutex
	dropped *User
)

// Drop makes the whole process the user's: real and effective ids and groups,
// with more groups added. Only the saved user id stays root's, for AsRoot. A nil
// user changes nothing.
func (u *User) Drop(groups ...uint32) error {
	if u == nil {
		return nil
	}
	rights.Lock()
	defer rights.Unlock()
	all := make([]int, 0, len(u.Groups)+len(groups))
	for _, g := range append(slices.Clone(u.Groups), groups...) {
		all = append(all, int(g))
	}
	if err := syscall.Setgroups(all); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)); err != nil {
		return fmt.Errorf("set gid %d: %w", u.GID, err)
	}
	if err := syscall.Setresuid(int(u.UID), int(u.UID), 0); err != nil {
		return fmt.Errorf("set uid %d: %w", u.UID, err)
	}
	dropped = u
	return nil
}

// AsRoot runs f while the process is root again after Drop: to start what needs
// rights, and to remove what root made. Without Drop it just runs f. It is not
// for calls from within f.
func AsRoot(f func() error) error {
	rights.Lock()
	defer rights.Unlock()
	if dropped == nil {
		return f()
	}
	if err := syscall.Setresuid(-1, 0, -1); err != nil {
		return fmt.Errorf("become root again: %w", err)
	}
	err := f()
	return errors.Join(err, syscall.Setresuid(-1, int(dropped.UID), -1))
}

// Chown gives a file qnet made to the user; nothing happens where there is none.
func (u *User) Chown(path string) error {
	if u == nil {
		return nil
	}
	return os.Lchown(path, int(u.UID), int(u.GID))
}
