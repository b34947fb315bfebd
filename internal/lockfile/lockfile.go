// Package lockfile holds flock(2) locks on files that are removed on release.
//
// The kernel drops a lock when its holder dies, by SIGKILL too: if a lock can be
// taken, its last holder is dead or has released it. The functions may be called
// concurrently, from several processes; a Lock belongs to one goroutine.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/perm"
)

// ErrHeld is returned by Try when a living process holds the lock.
var ErrHeld = errors.New("held by another process")

// Lock is a lock that this process holds. Its file is close-on-exec: a child never inherits it.
type Lock struct{ file *os.File }

// firstRetry and maxRetry bound the pause between two tries of Wait, which doubles.
// flock(2) that blocks could not be interrupted when the context ends.
const (
	firstRetry = time.Millisecond
	maxRetry   = 10 * time.Millisecond
)

// Wait takes the lock at path, making its directory where it is missing. It waits
// until the lock is free or the context ends, and then returns the context's error.
func Wait(ctx context.Context, path string) (*Lock, error) {
	for pause := firstRetry; ; pause = min(2*pause, maxRetry) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		}
		l, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return l, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// Try takes the lock at path, making its directory where it is missing, or returns
// an error that wraps ErrHeld.
func Try(path string) (*Lock, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		if err := flock(f); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: %w", path, ErrHeld)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if current(f, path) {
			return &Lock{f}, nil
		}
		f.Close() // its holder removed the file after open: the path has a new one
	}
}

// maxTries bounds how often open makes a directory that was removed meanwhile: on some file
// systems, such as that of /proc, none can be made, and the error is the same.
const maxTries = 1000

func open(path string) (*os.File, error) {
	for tries := 1; ; tries++ {
		f, err := perm.Own(path, perm.Private)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrPermission):
			// A process with a umask such as 0777 has just made it.
			if mended, mendErr := perm.Mend(path, perm.Private); !mended {
				return nil, errors.Join(err, mendErr)
			}
		case errors.Is(err, fs.ErrNotExist):
			// The last holder may remove the directory between these two calls.
			err = perm.MkdirAll(filepath.Dir(path), perm.Dir())
			if err != nil && (!errors.Is(err, fs.ErrNotExist) || tries == maxTries) {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// current reports whether the path still names the open file.
func current(f *os.File, path string) bool {
	here, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(here, there)
}

// Release removes the file and gives up the lock. Empty parent directories, two
// levels up, go too.
func (l *Lock) Release() error {
	path := l.file.Name()
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	dir := filepath.Dir(path)
	if os.Remove(dir) == nil { // os.Remove keeps a directory that is not empty
		os.Remove(filepath.Dir(dir))
	}
	return errors.Join(err, l.file.Close())
}

// Sweep removes the lock files that dead processes left in the directory: those
// whose lock is free. A missing directory is no error.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		lock, err := Try(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, ErrHeld):
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, lock.Release())
		}
	}
	return errors.Join(errs...)
}
