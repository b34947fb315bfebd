package convert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// signatures are how files of each format begin, at an offset.
var signatures = []struct {
	format string
	offset int
	bytes  string
}{
	{"qcow2", 0, "QFI\xfb"},
	{"vmdk", 0, "KDMV"},
	{"vmdk", 0, "COWD"},
	{"vmdk", 0, "# Disk DescriptorFile"},
	{"vhdx", 0, "vhdxfile"},
	{"vdi", 64, "\x7f\x10\xda\xbe"},
}

// rawSigns are how a disk shows that it is one, at an offset: by a partition table, MBR or, with
// sectors of 512 or 4096 bytes, GPT (UEFI Specification, 5.3.2); by ISO 9660 (ECMA-119, 9.1); or
// by a file system that fills the disk, ext2 to ext4, XFS or btrfs.
var rawSigns = []struct {
	offset int64
	bytes  string
}{
	{510, "\x55\xaa"},
	{512, "EFI PART"},
	{4096, "EFI PART"},
	{32769, "CD001"},
	{1080, "\x53\xef"},
	{0, "XFSB"},
	{65600, "_BHRfS_M"},
}

// ErrNoDisk is the refusal of a file that shows no format, and is no disk by its contents.
var ErrNoDisk = refuse("the file is no image of a disk: it has neither a header of qcow2, vmdk, vhdx or vdi, nor a partition table, nor a file system that qnet knows; if it is a disk all the same, give it a name that ends with .raw")

// Guess is Format for a file whose format is not stated. The error is ErrNoDisk if its contents
// show none.
func Guess(f *os.File) (string, error) {
	format, err := Format(f)
	if err != nil || format != "raw" {
		return format, err
	}
	for _, s := range rawSigns {
		b := make([]byte, len(s.bytes))
		if _, err := f.ReadAt(b, s.offset); err == nil && string(b) == s.bytes {
			return format, nil
		}
	}
	return "", ErrNoDisk
}

const headLength = 4096

// Format returns the format that a file's begin shows, "raw" if it shows none.
func Format(f *os.File) (string, error) {
	head, err := head(f)
	if err != nil {
		return "", err
	}
	for _, s := range signatures {
		if len(head) >= s.offset && bytes.HasPrefix(head[s.offset:], []byte(s.bytes)) {
			return s.format, nil
		}
	}
	return "raw", nil
}

func head(f *os.File) ([]byte, error) {
	b := make([]byte, headLength)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// Check returns an UntrustedError for a file that is not of the format, or that asks QEMU for
// other files, or for more than MaxSize. For a qcow2 image it returns the size of its disk.
func Check(f *os.File, format string) (size int64, err error) {
	found, err := Format(f)
	if err != nil {
		return 0, err
	}
	if found != format {
		return 0, refuse("the file is %s, want %s", found, format)
	}
	switch format {
	case "qcow2":
		return checkQcow2(f)
	case "vmdk":
		return 0, checkVMDK(f)
	}
	info, err := f.Stat()
	if err == nil && format == "raw" && info.Size() > MaxSize {
		return 0, tooLarge(info.Size())
	}
	return 0, err // vhdx, vdi: QEMU opens no other file for them
}

func tooLarge(size int64) error {
	return refuse("the image is of a disk of %s, more than %s", fetch.Bytes(size), fetch.Bytes(MaxSize))
}

// knownFeatures are the incompatible features of qcow2 that QEMU 7.2 has, without the
// external data file: dirty, corrupt, compression type, extended L2 entries
// (docs/interop/qcow2.txt).
const (
	knownFeatures = 1<<0 | 1<<1 | 1<<3 | 1<<4
	corrupt       = 1 << 1
)

// Smallest and largest size of a cluster that QEMU takes, as powers of 2.
const (
	minClusterBits = 9
	maxClusterBits = 21
)

func checkQcow2(f *os.File) (size int64, err error) {
	h, _, err := qcow2.Read(f)
	if err != nil {
		return 0, err
	}
	switch why := h.Unusable(); {
	case why != "":
		return 0, refuse("the image %s", why)
	case h.Size > MaxSize:
		return 0, tooLarge(int64(min(h.Size, 1<<62)))
	case h.Size == 0:
		return 0, refuse("the image is of an empty disk")
	case h.Version == 3 && h.Incompatible&^knownFeatures != 0:
		return 0, refuse("the image has features that this qnet does not know (%#x)", h.Incompatible&^knownFeatures)
	case h.Version == 3 && h.Incompatible&corrupt != 0:
		return 0, refuse("the image is marked as corrupt")
	case h.ClusterBits < minClusterBits || h.ClusterBits > maxClusterBits:
		return 0, refuse("the image has clusters of 2^%d bytes, allowed: 2^%d to 2^%d", h.ClusterBits, minClusterBits, maxClusterBits)
	}
	return int64(h.Size), nil
}

// vmdkHeader is how a sparse extent begins (VMware, Virtual Disk Format 5.0), in its layout.
type vmdkHeader struct {
	Magic            [4]byte
	Version, Flags   uint32
	Capacity         uint64 // sectors
	GrainSize        uint64
	DescriptorOffset uint64 // sectors
	DescriptorSize   uint64 // sectors
}

const (
	sector        = 512
	maxDescriptor = 64 << 10
	noParent      = "parentcid=ffffffff"
)

// checkVMDK takes a file that has all its data in itself. QEMU opens the files that a
// descriptor names: that of a file of its own, that of a sparse extent without capacity, and
// the parent of each.
func checkVMDK(f *os.File) error {
	var h vmdkHeader
	text, err := head(f)
	if err != nil {
		return err
	}
	if _, err := binary.Decode(text, binary.LittleEndian, &h); err != nil || string(h.Magic[:]) != "KDMV" {
		return refuse("the image keeps its data in other files; make it one file of type monolithicSparse or streamOptimized")
	}
	if h.Capacity == 0 {
		return refuse("the image has no size of its own, which could name any file of the host")
	}
	if h.Capacity > MaxSize/sector {
		return tooLarge(int64(min(h.Capacity, 1<<53) * sector))
	}
	if h.DescriptorOffset == 0 || h.DescriptorOffset > 1<<20 {
		return nil
	}
	descriptor := make([]byte, min(h.DescriptorSize*sector, maxDescriptor))
	n, err := f.ReadAt(descriptor, int64(h.DescriptorOffset)*sector)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	descriptor = bytes.ToLower(bytes.ReplaceAll(descriptor[:n], []byte(" "), nil))
	if bytes.Contains(descriptor, []byte("parentfilenamehint")) || bytes.Contains(descriptor, []byte("parentcid=")) && !bytes.Contains(descriptor, []byte(noParent)) {
		return refuse("the image has a parent, which could be any file of the host; make one without")
	}
	return nil
}
