// Package lockfile holds flock(2) locks on files that are removed on release.
//
// The kernel drops the lock when its holder dies, SIGKILL included, so a lock
// that can be taken means that nobody lives who held it.
package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrHeld is returned by Try when a living process holds the lock.
var ErrHeld = errors.New("held by another process")

// Lock is a lock held. Its file is close-on-exec: a child never inherits it.
type Lock struct{ file *os.File }

// Wait takes the lock at path, making its directory where it is missing, and
// blocks until it is free.
func Wait(path string) (*Lock, error) { return acquire(path, unix.LOCK_EX) }

// Try takes the lock at path or returns an error that wraps ErrHeld.
func Try(path string) (*Lock, error) { return acquire(path, unix.LOCK_EX|unix.LOCK_NB) }

func acquire(path string, how int) (*Lock, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		if err := flock(f, how); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: %w", path, ErrHeld)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if current(f, path) {
			return &Lock{f}, nil
		}
		f.Close() // its holder removed the file while we waited: the path has a new one
	}
}

func open(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// The last holder may remove the directory between these two calls.
		err = os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

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
	if os.Remove(dir) == nil { // fails, as it should, while it holds anything
		os.Remove(filepath.Dir(dir))
	}
	return errors.Join(err, l.file.Close())
}

// Sweep removes the files of a directory of locks that nobody holds: what dead
// processes left. A directory that is missing is no error.
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
