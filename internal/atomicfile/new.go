package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/perm"
)

// New makes a file with these permissions, which appears with all that fill writes or not at
// all, whenever the writer is killed or the host loses power. The error wraps fs.ErrExist
// where the path exists: it is left as it is. Where the file system has no unnamed files
// (O_TMPFILE in open(2)), a killed writer leaves path.new, and the next one removes it.
func New(path string, bits fs.FileMode, fill func(*os.File) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), fs.ErrExist)
	}
	f, named, err := unnamed(path, bits)
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	defer f.Close()
	if err = fillWhole(f, bits, fill); err == nil {
		err = appear(f, named, path)
	}
	if err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	return nil
}

// unnamed opens a file without a name, or one of the returned name.
func unnamed(path string, bits fs.FileMode) (f *os.File, named string, err error) {
	f, err = os.OpenFile(filepath.Dir(path), os.O_RDWR|unix.O_TMPFILE, bits)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return f, "", err
	}
	named = path + ".new"
	if err := os.Remove(named); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	f, err = os.OpenFile(named, os.O_RDWR|os.O_CREATE|os.O_EXCL, bits)
	return f, named, err
}

func fillWhole(f *os.File, bits fs.FileMode, fill func(*os.File) error) error {
	err := perm.Set(f, bits)
	if err == nil {
		err = failpoint.Hit("atomicfile opened")
	}
	if err == nil {
		err = fill(f)
	}
	if err == nil {
		err = failpoint.Hit("atomicfile filled")
	}
	if err == nil {
		err = f.Sync()
	}
	return err
}

// appear gives the file its name, if no other has it.
func appear(f *os.File, named, path string) error {
	if named == "" {
		// Not by AT_EMPTY_PATH, which takes a capability (linkat(2)).
		from := fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd())
		if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &fs.PathError{Op: "link", Path: path, Err: err}
		}
		return failpoint.Hit("atomicfile named")
	}
	err := unix.Renameat2(unix.AT_FDCWD, named, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Rename(named, path) // the file system knows no better
	}
	if err != nil {
		return errors.Join(err, os.Remove(named))
	}
	return failpoint.Hit("atomicfile named")
}

// SyncDir makes the names in a directory outlive a loss of power. Some file systems have no
// such call.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return nil // one may write to a directory that one may not list
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}
