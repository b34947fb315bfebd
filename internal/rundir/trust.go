package rundir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUntrusted is wrapped by the error for a directory in which another user could put files and
// links in the place of qnet's.
var ErrUntrusted = errors.New("another user could put files there in place of qnet's")

// Trust returns an error that wraps ErrUntrusted if a user besides root, the process's own and
// the given ones could change what a path leads to: the directory, one above it, or one that a
// link on the way leads through, is theirs, or they may write to it and it is not sticky. Users
// may open their own directories to others, but root's files are in none. What is missing is
// not looked at: the process makes it.
func Trust(dir string, users ...uint32) error {
	t := truster{users: append(slices.Clone(users), 0, uint32(os.Geteuid())), partly: isPartly()}
	return t.walk(filepath.Clean(dir))
}

// truster checks a path, and what its links lead to.
type truster struct {
	users  []uint32
	partly bool // the user namespace does not know all users
	links  int
}

// maxLinks bounds the symbolic links on a path, as the kernel does (path_resolution(7)).
const maxLinks = 40

// walk checks each part of an absolute path.
func (t *truster) walk(dir string) error {
	parts := strings.Split(strings.TrimPrefix(dir, "/"), "/")
	path := "/"
	for i, part := range append([]string{""}, parts...) {
		path = filepath.Join(path, part)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil //nolint:nilerr // what cannot be seen is told of where it is used
		}
		if err := t.check(path, st, i == len(parts)); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return t.follow(path, parts[i:])
		}
	}
	return nil
}

// follow walks to where a link leads, and from there on.
func (t *truster) follow(link string, rest []string) error {
	target, err := os.Readlink(link)
	if t.links++; err != nil || t.links > maxLinks {
		return nil //nolint:nilerr // as above
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(link), target)
	}
	return t.walk(filepath.Join(append([]string{target}, rest...)...))
}

// check checks a directory or a link; last says that nothing follows.
func (t *truster) check(path string, st unix.Stat_t, last bool) error {
	if !slices.Contains(t.users, st.Uid) && (last || !t.isForeign(st.Uid)) {
		return fmt.Errorf("%q belongs to user %d: %w", path, st.Uid, ErrUntrusted)
	}
	if os.Geteuid() != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&unix.S_ISVTX != 0 && !last {
		return nil
	}
	byGroup := st.Mode&0o020 != 0 && !slices.Contains(t.users, st.Gid) && st.Gid != uint32(os.Getegid())
	if st.Mode&0o002 != 0 || byGroup {
		return fmt.Errorf("%q has mode %04o: %w", path, st.Mode&0o7777, ErrUntrusted)
	}
	return nil
}

// overflow is the user id that stands for all that a user namespace does not know
// (user_namespaces(7)).
const overflow = 65534

// isForeign reports whether the owner is one whom the user namespace does not know, as the host's
// root is in a container without rights.
func (t *truster) isForeign(uid uint32) bool { return t.partly && uid == overflow }

func isPartly() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}
