// Package imagelock reads the locks that QEMU and its tools (qemu-img, qemu-nbd, guestfish)
// hold on disk images, and takes none. So a run can say who uses an image before it changes
// anything on the host; QEMU itself would only name its own descriptor of it.
//
// QEMU locks single bytes of the image, one for each thing that it does to the image, and
// one for each thing that it forbids others to do (RAW_LOCK_PERM_BASE and
// RAW_LOCK_SHARED_BASE in QEMU's block/file-posix.c). All locks are shared ones of fcntl(2),
// of the open file description (F_OFD_SETLK): two conflict by their meaning, not by the
// kernel's.
package imagelock

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The bytes. QEMU's permissions are numbered from 0: consistent read, write.
const (
	writes      = 101 // its holder writes to the image
	forbidRead  = 200 // its holder lets no other read
	forbidWrite = 201 // its holder lets no other write
)

// ErrInUse is wrapped by the error for an image that another program uses.
var ErrInUse = errors.New("it is in use")

// Error tells that an image cannot be used beside those who use it already.
type Error struct {
	Image   string // the image's file
	Holders []Holder
}

// Error names the image and its users: `open disk "/d/a.raw": it is in use by VM "web"
// (process 1234)`.
func (e *Error) Error() string {
	by := "a program that cannot be seen from here: another user's, another container's or another host's"
	if len(e.Holders) > 0 {
		names := make([]string, len(e.Holders))
		for i, h := range e.Holders {
			names[i] = h.String()
		}
		by = strings.Join(names, " and ")
	}
	return fmt.Sprintf("open disk %q: %v by %s", e.Image, ErrInUse, by)
}

// Is reports whether the target is ErrInUse.
func (e *Error) Is(target error) bool { return target == ErrInUse }

// Check returns an *Error if QEMU could not use the open image, to read or also to write,
// beside the programs that use it now. It returns nil where the file system has no locks:
// QEMU locks nothing there. f may be open for reading only.
func Check(f *os.File, write bool) error {
	conflicts := []int64{forbidRead, writes} // QEMU lets no other write what it reads
	if write {
		conflicts = append(conflicts, forbidWrite)
	}
	for _, at := range conflicts {
		if locked(f, at) {
			return &Error{Image: f.Name(), Holders: holders(f)}
		}
	}
	return nil
}

// locked reports whether another open file description has a lock on the byte.
func locked(f *os.File, at int64) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: at, Len: 1}
	var errno error
	err = raw.Control(func(fd uintptr) { errno = unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lock) })
	return err == nil && errno == nil && lock.Type != unix.F_UNLCK
}
