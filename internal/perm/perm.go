// Package perm makes qnet's files, directories and sockets with the permissions that they
// need, and puts old ones right. What open(2), mkdir(2) and bind(2) are given is not
// enough: the umask of the caller (umask(2)) takes bits away, and sudo takes over the
// caller's; the default ACL of a directory (acl(5)) takes the place of both. A chmod(2)
// afterwards depends on neither. The umask itself stays: QEMU and other programs that
// qnet starts make their files by it.
//
// docs/files.md lists what needs which permissions. All functions may be called
// concurrently, also from several processes.
package perm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Private are the permissions of what only its owner may read: sockets, logs, locks.
const Private fs.FileMode = 0o600

// Dir returns the permissions of qnet's directories. Users look for their VMs in root's.
// A user's own concern nobody else.
func Dir() fs.FileMode {
	if os.Geteuid() == 0 {
		return 0o755
	}
	return 0o700
}

// File returns the permissions of files that qnet plan and qnet net read: in root's
// directories for every user, in a user's own for that user.
func File() fs.FileMode { return Dir() &^ 0o111 }

// MkdirAll makes a directory and those above it that are missing, each with these
// permissions. It leaves alone those that exist. The error is fs.ErrNotExist if another
// process removed one of them meanwhile.
func MkdirAll(dir string, bits fs.FileMode) error {
	err := os.Mkdir(dir, bits)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err = MkdirAll(filepath.Dir(dir), bits); err == nil {
			err = os.Mkdir(dir, bits)
		}
	}
	switch {
	case err == nil:
		return add(dir, bits)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, statErr := os.Stat(dir)
	if statErr == nil && info.IsDir() {
		return nil
	}
	if link, err := os.Readlink(dir); err == nil && statErr != nil {
		// Not fs.ErrNotExist: to try again does not help.
		return fmt.Errorf("make directory %s: it is a link to %s, which cannot be used (%v)", dir, link, errors.Unwrap(statErr)) //nolint:errorlint // as said
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		return statErr // another process removed it
	}
	return fmt.Errorf("make directory %s: %w", dir, unix.ENOTDIR)
}

// add gives a directory bits that it lacks. It keeps the others: those beyond rwx, such as
// setgid, come from the directory above.
func add(path string, bits fs.FileMode) error {
	return onFile(path, func(f *os.File, st unix.Stat_t) error {
		if now := st.Mode & 0o7777; now|uint32(bits) != now {
			return chmod(f, now|uint32(bits))
		}
		return nil
	})
}

// onFile calls f with what a path names, opened neither to be read nor to be written
// (O_PATH): a file that another takes the place of meanwhile, such as a link, is not the one that f
// changes. It refuses symbolic links, and files with a second name, which may be another user's.
func onFile(path string, f func(*os.File, unix.Stat_t) error) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFLNK || kind != unix.S_IFDIR && st.Nlink > 1 {
		return &fs.PathError{Op: "change", Path: path, Err: ErrLink}
	}
	return f(file, st)
}

// ErrLink is wrapped by the error for a file of qnet's in whose place there is a link.
var ErrLink = errors.New("it is a link, which no qnet makes there")

// chmod changes the mode of a file that was opened with O_PATH.
func chmod(f *os.File, mode uint32) error {
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	return nil
}

// Mend adds the bits that a file or directory of the process's user lacks: an older qnet
// made it by the caller's umask. It reports whether there were any. It leaves alone what
// is missing, is a link, or belongs to another user.
func Mend(path string, bits fs.FileMode) (mended bool, err error) {
	err = onFile(path, func(f *os.File, st unix.Stat_t) error {
		if int(st.Uid) != os.Geteuid() || fs.FileMode(st.Mode)&bits == bits {
			return nil
		}
		mended = true
		return chmod(f, st.Mode&0o7777|uint32(bits))
	})
	for _, passed := range []error{unix.ENOENT, unix.EACCES, ErrLink} {
		if errors.Is(err, passed) {
			return false, nil
		}
	}
	return mended && err == nil, err
}

// Own opens a file of qnet's own for reading and writing, and makes it where it is missing, with
// exactly these permissions. It refuses a link, a file with a second name, and what is no regular
// file: another user may have put it there. It changes no file that was there.
func Own(path string, bits fs.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, bits)
		if err == nil {
			if err = Set(f, bits); err != nil {
				f.Close()
			}
			return f, err
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if f, err = openOwn(path); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		} // another process has just removed it
	}
}

func openOwn(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrLink}
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1) {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrLink}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Give gives a socket, a directory, or a file of the process's user, to another user. A link, or
// another user's file, that took its place is refused.
func Give(path string, uid, gid uint32) error {
	return onFile(path, func(f *os.File, st unix.Stat_t) error {
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFSOCK && kind != unix.S_IFDIR && int(st.Uid) != os.Geteuid() {
			return &fs.PathError{Op: "chown", Path: path, Err: ErrLink}
		}
		if err := unix.Fchownat(int(f.Fd()), "", int(uid), int(gid), unix.AT_EMPTY_PATH); err != nil {
			return &fs.PathError{Op: "chown", Path: path, Err: err}
		}
		return nil
	})
}

// Set gives an open file exactly these permissions.
func Set(f *os.File, bits fs.FileMode) error {
	info, err := f.Stat()
	if err == nil && info.Mode().Perm() != bits {
		err = f.Chmod(bits)
	}
	return err
}

// private closes a socket to other users before it has a name: its file begins with the
// permissions of the socket without the bits of the umask (unix_bind_bsd in
// net/unix/af_unix.c). A chmod afterwards comes late for who connects at once.
func private(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(Private)) })
	return errors.Join(controlErr, err)
}

// Listen listens on a UNIX socket of the network "unix" or "unixpacket" that only its
// owner may ever connect to.
func Listen(ctx context.Context, network, path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: private}
	l, err := config.Listen(ctx, network, path)
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: %s is no network of UNIX sockets", path, network), l.Close())
	}
	err = onFile(path, func(f *os.File, st unix.Stat_t) error {
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return &fs.PathError{Op: "chmod", Path: path, Err: ErrLink}
		}
		return chmod(f, uint32(Private))
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return listener, nil
}
