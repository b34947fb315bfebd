package machine

import (
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
	for _, d := range c.Disks {
		if err := imagelock.Check(d.File, !d.readOnlyFile()); err != nil {
			return err
		}
	}
	return nil
}

// distinct refuses a file that two disks share, unless both only read it: under another
// name, by a link, it is still the same.
func (c Config) distinct() error {
	infos := make([]fs.FileInfo, len(c.Disks))
	for i, d := range c.Disks {
		if d.File == nil {
			continue
		}
		var err error
		if infos[i], err = c.stat(d.File); err != nil {
			return fmt.Errorf("%s: %w", d.object(i), err)
		}
		for j, other := range c.Disks[:i] {
			if sameImage(infos[i], infos[j]) && (!d.readOnlyFile() || !other.readOnlyFile()) {
				return badConfig(d.object(i), "it is the same file as %s", other.object(j))
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
	if err := c.checkFile(d, object); err != nil {
		return "", err
	}
	h, found, err := qcow2.Read(d.File)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", object, err)
	case d.Format == "qcow2" && !found:
		return "", badConfig(object, "named qcow2, but it has no qcow2 header")
	case d.Format == "qcow2":
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
func (c Config) checkFile(d Disk, object string) error {
	info, err := c.stat(d.File)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if !info.Mode().IsRegular() && !isBlock(info) {
		return badConfig(object, "neither a regular file nor a block device")
	}
	mode, err := accessMode(d.File)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if !d.readOnlyFile() && mode != unix.O_RDWR {
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
