package machine

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// Check validates c and looks at its disk images, changing nothing. An image that another
// program uses is an [imagelock.Error]. Warnings are about what works but
// is probably a mistake. Prepare does the same; call Check before preparing things that a
// bad disk would make useless.
func Check(c Config) (warnings []string, err error) {
	if c.Accel == AccelAuto || c.Accel == "" {
		c.Accel = AccelTCG
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := c.distinct(); err != nil {
		return nil, err
	}
	for i, d := range c.Disks {
		warning, err := c.checkDisk(d, i)
		if err != nil {
			return warnings, err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return warnings, c.InUse()
}

// InUse returns an *imagelock.Error if another program uses one of the images.
func (c Config) InUse() error {
	for _, u := range c.uses() {
		if u.file == nil {
			continue
		}
		if err := imagelock.Check(u.file, !u.reads); err != nil {
			return err
		}
	}
	return nil
}

// use is what a disk does with one file.
type use struct {
	object string // the disk, or its base
	file   *os.File
	reads  bool // and never writes
}

// uses lists the files of the disks and of their bases.
func (c Config) uses() []use {
	var list []use
	for i, d := range c.Disks {
		list = append(list, use{d.object(i), d.File, d.readOnlyFile()})
		if d.Backing != nil {
			list = append(list, use{fmt.Sprintf("base %q of %s", d.Backing.Name(), d.object(i)), d.Backing, true})
		}
		if d.Below != nil {
			list = append(list, use{fmt.Sprintf("base %q below %s", d.Below.Name(), d.object(i)), d.Below, true})
		}
	}
	return list
}

// distinct refuses a file that two disks share, unless both only read it: under another
// name, by a link, it is still the same.
func (c Config) distinct() error {
	uses := c.uses()
	infos := make([]fs.FileInfo, len(uses))
	for i, u := range uses {
		if u.file == nil {
			continue
		}
		var err error
		if infos[i], err = c.stat(u.file); err != nil {
			return fmt.Errorf("%s: %w", u.object, err)
		}
		for j, other := range uses[:i] {
			if sameImage(infos[i], infos[j]) && (!u.reads || !other.reads) {
				return badConfig(u.object, "it is the same file as %s", other.object)
			}
		}
	}
	return nil
}

// sameImage reports whether two files are one, or two nodes of one block device.
func sameImage(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return false
	}
	x, okX := a.Sys().(*syscall.Stat_t)
	y, okY := b.Sys().(*syscall.Stat_t)
	return os.SameFile(a, b) || okX && okY && isBlock(a) && isBlock(b) && x.Rdev == y.Rdev
}

func (c Config) checkDisk(d Disk, i int) (warning string, err error) {
	object := d.object(i)
	if d.File == nil {
		return "", badConfig(object, "no file")
	}
	if err := c.checkFile(d.File, d.readOnlyFile(), object); err != nil {
		return "", err
	}
	if d.Backing != nil {
		base := fmt.Sprintf("base %q of %s", d.Backing.Name(), object)
		if err := c.checkFile(d.Backing, true, base); err != nil {
			return "", err
		}
		if warning, err = checkHeader(d.Backing, d.BackingFormat, base); err != nil {
			return "", err
		}
	}
	if d.Below != nil {
		base := fmt.Sprintf("base %q below %s", d.Below.Name(), object)
		if err := c.checkFile(d.Below, true, base); err != nil {
			return "", err
		}
		if _, err = checkHeader(d.Below, "qcow2", base); err != nil {
			return "", err
		}
	}
	own, err := checkHeader(d.File, d.Format, object)
	return cmp.Or(own, warning), err
}

// checkHeader wants an image of that format by which QEMU opens no other file.
func checkHeader(f *os.File, format, object string) (warning string, err error) {
	h, found, err := qcow2.Read(f)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", object, err)
	case format == "qcow2" && !found:
		return "", badConfig(object, "named qcow2, but it has no qcow2 header")
	case format == "qcow2":
		if why := h.Unusable(); why != "" {
			return "", badConfig(object, "%s", why)
		}
		return "", nil
	case found:
		return object + ": named raw, but it has a qcow2 header; the guest will see the container, not its content", nil
	}
	return "", nil
}

// checkFile wants a regular file or block device, opened as it will be used.
func (c Config) checkFile(f *os.File, reads bool, object string) error {
	info, err := c.stat(f)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if !info.Mode().IsRegular() && !isBlock(info) {
		return badConfig(object, "neither a regular file nor a block device")
	}
	mode, err := accessMode(f)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if !reads && mode != unix.O_RDWR {
		return badConfig(object, "opened for reading only, but the guest may write to it")
	}
	return nil
}

func isBlock(info fs.FileInfo) bool {
	return info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice
}

func accessMode(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var flags int
	var errno error
	if err := raw.Control(func(fd uintptr) { flags, errno = unix.FcntlInt(fd, unix.F_GETFL, 0) }); err != nil {
		return 0, err
	}
	return flags & unix.O_ACCMODE, errno
}

// virtualSize returns the size of the disk that the guest sees, in bytes.
func (d Disk) virtualSize() (int64, error) {
	if d.Format == "qcow2" {
		h, _, err := qcow2.Read(d.File)
		return int64(h.Size), err
	}
	// Seeking tells the size of block devices too. QEMU uses offsets of its
	// own, so moving this one changes nothing for it.
	return d.File.Seek(0, io.SeekEnd)
}
