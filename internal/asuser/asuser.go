// Package asuser does things with the rights of the user behind sudo, so that a
// profile names no file its author could not open, and QEMU runs as that user.
//
// User.Do changes the rights of one thread, Drop and AsRoot those of the process
// (credentials(7), capabilities(7)). All functions may be called concurrently, but AsRoot
// makes the whole process root while its function runs.
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

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/perm"
)

// User is the user that called sudo. A nil *User is the process's own user.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, the GID among them
}

// Lookup returns the user behind sudo, nil if there is none. It believes SUDO_UID and
// SUDO_GID only if the process is root's: another user could have set them.
func Lookup(getenv func(string) string) (*User, error) {
	if os.Getuid() != 0 || os.Geteuid() != 0 {
		return nil, nil
	}
	return behindSudo(getenv, supplementary)
}

// behindSudo returns the user that the environment names, with the groups that groups
// looks up.
func behindSudo(getenv func(string) string, groups func(uid string) ([]string, error)) (*User, error) {
	if getenv("SUDO_UID") == "" {
		return nil, nil
	}
	uid, err := idOf(getenv, "SUDO_UID")
	if err != nil {
		return nil, err
	}
	gid, err := idOf(getenv, "SUDO_GID")
	if err != nil {
		return nil, err
	}
	if uid == 0 {
		return nil, nil // root's own sudo
	}
	u := &User{UID: uint32(uid), GID: uint32(gid), Groups: []uint32{uint32(gid)}}
	ids, err := groups(strconv.FormatUint(uid, 10))
	if err != nil {
		return nil, fmt.Errorf("look up groups of user %d: %w", uid, err)
	}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && uint32(g) != u.GID {
			u.Groups = append(u.Groups, uint32(g))
		}
	}
	return u, nil
}

// idOf reads the id of a user or group. The largest one is nobody's: to the kernel it says that an
// id stays as it is (setresuid(2)), which is root's.
func idOf(getenv func(string) string, name string) (uint64, error) {
	id, err := strconv.ParseUint(getenv(name), 10, 32)
	if err == nil && id == 1<<32-1 {
		err = fmt.Errorf("%d is no id", id)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return id, nil
}

// supplementary returns the ids of a user's groups; none for a uid without an entry.
func supplementary(uid string) ([]string, error) {
	entry, err := user.LookupId(uid)
	if err != nil {
		return nil, nil //nolint:nilerr // as said
	}
	return entry.GroupIds()
}

// Do runs f on a thread that has the user's rights to files: the user's ids and groups,
// and so none of root's capabilities over files (credentials(7), capabilities(7)). The
// thread ends afterwards. f must not leave work to other goroutines: they have other
// threads.
func (u *User) Do(f func() error) error {
	if u == nil {
		return f()
	}
	rights.Lock()
	if dropped != nil { // the process has the user's rights already
		rights.Unlock()
		return f()
	}
	return u.onThread(f, rights.Unlock)
}

// Within is Do for an f of AsRoot, which holds what Do would wait for, or for a process that
// calls no Drop.
func (u *User) Within(f func() error) error { return u.onThread(f, func() {}) }

// onThread runs f on a thread that became the user, which it tells before.
func (u *User) onThread(f func() error, tell func()) error {
	became, result := make(chan error), make(chan error)
	onOwnThread(func() {
		err := u.become()
		became <- err
		if err == nil {
			result <- f()
		}
	})
	err := <-became
	tell() // Do unlocks: halfway to the user's rights, the thread could not follow Drop
	if err != nil {
		return err
	}
	return <-result
}

// onOwnThread runs f on a thread that ends afterwards. That cannot be the main thread,
// which the runtime keeps; its ids are the process's for kill(2), ps(1) and others.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread() // and never unlocked: so the thread ends
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		onOwnThread(func() {
			f()
			close(done)
		})
		<-done
	}()
}

// rights guards the process's ids, which Drop and AsRoot change, those of a thread that
// Do makes the user's, and dropped, the user of Drop.
var (
	rights  sync.Mutex
	dropped *User
)

// Drop gives the whole process the user's real and effective ids and groups, and the
// groups besides. Only the saved user id stays root's, for AsRoot. A nil user changes
// nothing.
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

// AsRoot makes the process root again after Drop, while f runs: to start a keeper, and to
// remove files of root's. Without Drop it only runs f. f must not call AsRoot.
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

// Chown gives a file that qnet made to the user. A nil user changes nothing.
func (u *User) Chown(path string) error {
	if u == nil {
		return nil
	}
	return perm.Give(path, u.UID, u.GID)
}
