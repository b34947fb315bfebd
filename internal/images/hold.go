package images

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Hold keeps Remove and Prune away from an image that is open, until the file and all copies
// of its descriptor are closed, such as QEMU's. So a run can use an image before the VM's
// record tells that it does. The error wraps os.ErrNotExist if the image was removed before.
// A file system without flock(2) holds nothing.
func Hold(image *os.File) error {
	err := unix.Flock(int(image.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	var st unix.Stat_t
	if unix.Fstat(int(image.Fd()), &st) == nil && st.Nlink == 0 || errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("use image %s: another qnet removes it: %w", image.Name(), os.ErrNotExist)
	}
	return nil
}

// HeldError is an image that a VM uses which runs, or begins to.
type HeldError struct{ Name string }

// Error names the image.
func (e *HeldError) Error() string {
	return fmt.Sprintf("remove image %s: a VM that runs, or begins to, uses it", e.Name)
}

// Hint says what to do.
func (e *HeldError) Hint() string { return `"qnet ls" lists VMs; qnet rm VM removes one with its disk` }

// seize is Seize of an image.
func (c Cached) seize() (*os.File, error) { return Seize(c.Path, c.Name) }

// Seize opens a file that is about to be removed, and keeps Hold away from it. The error is
// a *HeldError with that name if another process holds it.
func Seize(path, name string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, &HeldError{name}
	}
	return f, nil
}
