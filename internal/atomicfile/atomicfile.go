// Package atomicfile replaces files in one go: a reader sees the old text or the new
// one, never a part, whenever the writer is killed.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/perm"
)

// Write replaces the file at path by way of path.new (rename(2)). It has the permissions
// perm.File: in root's directories everyone may read it. Two processes must not write the
// same path at a time.
func Write(path string, b []byte) error {
	tmp := path + ".new"
	err := Create(tmp, b)
	if err == nil {
		if err = os.Rename(tmp, path); err != nil {
			err = errors.Join(err, os.Remove(tmp))
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Create writes a new file with the permissions perm.File, and removes an older one before:
// a writer that was killed may have left it. A reader may see a part. With an error, such as
// that of a full disk, it leaves no file.
func Create(path string, b []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm.File())
	if err != nil {
		return err
	}
	if err = perm.Set(f, perm.File()); err == nil {
		_, err = f.Write(b)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// WritePrivate replaces the file at path with one that only the caller may read. Any number
// of processes may write the same path at a time: the last one wins. A process that is
// killed may leave a file beside it whose name begins with a dot.
func WritePrivate(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(f.Name())
	if err = perm.Set(f, perm.Private); err == nil {
		_, err = f.Write(b)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
