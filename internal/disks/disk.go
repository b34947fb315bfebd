package disks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// Formats of images.
const (
	Raw   = "raw"
	Qcow2 = "qcow2"
)

// Disk is a disk that qnet may make.
type Disk struct {
	File   string // absolute path
	Format string // Raw or Qcow2; an overlay is Qcow2
	Size   int64  // bytes; 0 is the base's
	Base   Pin    // Path "" for a disk without one
}

// Found is what Look sees of a disk.
type Found struct {
	Missing bool  // the disk will be made
	Grows   bool  // the disk will be enlarged
	Size    int64 // bytes that the guest will see
	Pin     Pin   // the base's
}

// Error says why a disk cannot be used as it is described, and what to do.
type Error struct {
	File string
	Msg  string
	Do   string // what the user can do about it, "" for nothing in particular
	Err  error  // the cause, nil for none but the words
}

// Error returns for example `use disk "/d/a.qcow2": it was made on another base`.
func (e *Error) Error() string { return fmt.Sprintf("use disk %q: %s", e.File, e.Msg) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.Do }

// Look tells whether the disk can be used, and changes nothing. base is the open base of an
// overlay, nil for other disks. The error may be an *Error.
func (d Disk) Look(base *os.File, digests Digests) (Found, error) {
	if d.Base.Path != "" {
		if err := d.checkBase(base); err != nil {
			return Found{}, err
		}
	}
	f, err := os.OpenFile(d.File, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return d.lookAnew(base, digests)
	}
	if err != nil {
		return Found{}, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	found := Found{}
	if d.Base.Path != "" {
		if found.Pin, err = d.checkPin(f, base, digests); err != nil {
			return found, err
		}
	}
	found.Size, err = d.sizeOf(f)
	if err != nil {
		return found, err
	}
	switch {
	case d.Size == 0 || d.Size == found.Size:
		return found, nil
	case d.Size < found.Size:
		return found, &Error{d.File, fmt.Sprintf("it has %s, and the profile says %s: a disk is never made smaller", Size(found.Size), Size(d.Size)), fmt.Sprintf("say size = %q", sizeKey(found.Size)), nil}
	}
	found.Grows, found.Size = true, d.Size
	return found, nil
}

// checkBase refuses a base whose changes could not be seen: a block device has no times.
func (d Disk) checkBase(base *os.File) error {
	info, err := base.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return &Error{d.File, fmt.Sprintf("its base %q is no regular file", d.Base.Path), "copy it into a file: qemu-img convert -O qcow2", nil}
	}
	return err
}

// lookAnew is Look for a disk that is missing.
func (d Disk) lookAnew(base *os.File, digests Digests) (Found, error) {
	found := Found{Missing: true, Size: d.Size}
	if d.Base.Path == "" {
		return found, nil
	}
	size, err := d.Base.size(base)
	switch {
	case err != nil:
		return found, err
	case d.Size != 0 && d.Size < size:
		return found, &Error{d.File, fmt.Sprintf("its base %q has %s, more than the %s that the profile says", d.Base.Path, Size(size), Size(d.Size)), fmt.Sprintf("say size = %q or more, or leave size out", sizeKey(size)), nil}
	}
	found.Size = max(size, d.Size)
	found.Pin = d.Base
	if found.Pin.Digest == "" {
		found.Pin.Digest, err = digests.Of(base)
	}
	return found, err
}

// Ready makes the disk if it is missing, and enlarges it if it has become too small. The
// arguments and the error are those of Look.
func (d Disk) Ready(base *os.File, digests Digests) (Found, error) {
	found, err := d.Look(base, digests)
	if err == nil && found.Missing {
		err = d.create(found)
		if errors.Is(err, fs.ErrExist) { // another run was faster
			found, err = d.Look(base, digests)
		}
	}
	if err == nil && found.Grows {
		err = d.grow(found.Size)
	}
	return found, err
}

func (d Disk) create(found Found) error {
	note, err := found.Pin.note()
	if err == nil {
		err = atomicfile.New(d.File, perm.Private, func(f *os.File) error {
			if d.Format == Raw {
				return f.Truncate(found.Size)
			}
			return qcow2.Make(f, found.Size, note)
		})
	}
	if err != nil {
		return fmt.Errorf("make disk %q: %w", d.File, err)
	}
	return nil
}

func (d Disk) grow(size int64) error {
	f, err := os.OpenFile(d.File, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("enlarge disk: %w", err)
	}
	defer f.Close()
	if err := imagelock.Check(f, true); err != nil {
		return err
	}
	if d.Format == Raw {
		err = errors.Join(f.Truncate(size), f.Sync())
	} else {
		err = qcow2.Grow(f, size)
	}
	if err == nil {
		err = failpoint.Hit("disk enlarged")
	}
	if err != nil {
		return fmt.Errorf("enlarge disk %q to %s: %w", d.File, Size(size), err)
	}
	return nil
}

// sizeOf returns what the guest sees of the disk's file, in bytes.
func (d Disk) sizeOf(f *os.File) (int64, error) {
	size, err := sizeAs(f, d.Format)
	if err != nil {
		return 0, &Error{d.File, err.Error(), "", err}
	}
	return size, nil
}

// sizeAs returns the size of the disk in an image, in bytes. It refuses an image by which QEMU
// would open another file.
func sizeAs(f *os.File, format string) (int64, error) {
	if format == Raw {
		return f.Seek(0, io.SeekEnd) // also of a block device
	}
	h, found, err := qcow2.Read(f)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, errors.New("named qcow2, but it has no qcow2 header")
	case h.Unusable() != "":
		return 0, errors.New(h.Unusable())
	}
	return int64(h.Size), nil
}
