package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	qcow2Magic        = "QFI\xfb"
	qcow2ExternalData = 1 << 2 // bit of the incompatible features
)

// qcow2Header is what matters here of the header of a qcow2 image (QEMU's
// docs/interop/qcow2.txt), in its own layout.
type qcow2Header struct {
	Magic            [4]byte
	Version          uint32
	BackingOffset    uint64
	BackingLength    uint32
	ClusterBits      uint32
	Size             uint64
	Crypt            uint32
	L1Size           uint32
	L1Offset         uint64
	RefcountOffset   uint64
	RefcountClusters uint32
	Snapshots        uint32
	SnapshotsOffset  uint64
	Incompatible     uint64 // from here on only in version 3
	Compatible       uint64
	Autoclear        uint64
	RefcountOrder    uint32
	HeaderLength     uint32
}

// Check validates c and looks at its disk images, changing nothing. Warnings
// are about what works but is probably a mistake. Launch does the same; call
// Check before preparing things that a bad disk would make useless.
func Check(c Config) (warnings []string, err error) {
	if c.Accel == AccelAuto || c.Accel == "" {
		c.Accel = AccelTCG
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	for i, d := range c.Disks {
		warning, err := d.check(i)
		if err != nil {
			return warnings, err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return warnings, nil
}

func (d Disk) check(i int) (warning string, err error) {
	object := d.object(i)
	if d.File == nil {
		return "", badConfig(object, "no file")
	}
	if err := d.checkFile(object); err != nil {
		return "", err
	}
	h, found, err := readQcow2(d.File)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", object, err)
	case d.Format == "qcow2" && !found:
		return "", badConfig(object, "named qcow2, but it has no qcow2 header")
	case d.Format == "qcow2":
		return "", h.check(object)
	case found:
		return object + ": named raw, but it has a qcow2 header; the guest will see the container, not its content", nil
	}
	return "", nil
}

// checkFile wants a regular file or block device, opened as it will be used.
func (d Disk) checkFile(object string) error {
	info, err := d.File.Stat()
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

// check refuses what QEMU would have to open another file for, and what it
// cannot open without a secret.
func (h qcow2Header) check(object string) error {
	switch {
	case h.Version != 2 && h.Version != 3:
		return badConfig(object, "qcow2 version %d, want 2 or 3", h.Version)
	case h.Version == 3 && h.Incompatible&qcow2ExternalData != 0:
		return badConfig(object, "keeps its data in another file, which could be any file of the host; convert it with: qemu-img convert -O qcow2")
	case h.BackingOffset != 0:
		return badConfig(object, "needs a backing file, which could be any file of the host; flatten it with: qemu-img convert -O qcow2")
	case h.Crypt != 0:
		return badConfig(object, "is encrypted, which is not supported")
	}
	return nil
}

// readQcow2 returns the header if f has one.
func readQcow2(f *os.File) (h qcow2Header, found bool, err error) {
	start := make([]byte, binary.Size(h))
	if _, err := f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return h, false, err
	}
	if _, err := binary.Decode(start, binary.BigEndian, &h); err != nil {
		return h, false, err
	}
	return h, string(h.Magic[:]) == qcow2Magic, nil
}

// virtualSize returns the size of the disk that the guest sees, in bytes.
func (d Disk) virtualSize() (int64, error) {
	if d.Format == "qcow2" {
		h, _, err := readQcow2(d.File)
		return int64(h.Size), err
	}
	// Seeking tells the size of block devices too. QEMU uses offsets of its
	// own, so moving this one changes nothing for it.
	return d.File.Seek(0, io.SeekEnd)
}
