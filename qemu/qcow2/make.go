package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	clusterBits   = 16
	clusterSize   = 1 << clusterBits
	refcountOrder = 4 // 16 bits per refcount
	sectorSize    = 512
	// bytesPerL1 is what one entry of the L1 table covers: a cluster full of
	// 8-byte L2 entries, each for one cluster.
	bytesPerL1 = clusterSize / 8 * clusterSize
	// maxL1 is QEMU's limit for the L1 table, in bytes.
	maxL1 = 32 << 20
)

// MaxSize is the largest disk of an image that this package makes, in bytes: 2 PiB.
const MaxSize = maxL1 / 8 * bytesPerL1

// NewOverlay returns an empty image of a disk of size bytes, up to MaxSize, in an unlinked
// file in dir. It names no backing file: an option of QEMU names what lies below. The
// caller closes the file, which ends the image.
func NewOverlay(dir string, size int64) (*os.File, error) {
	f, err := unlinkedFile(dir)
	if err != nil {
		return nil, fmt.Errorf("make overlay: %w", err)
	}
	if err := Make(f, size, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("make overlay: %w", err), f.Close())
	}
	return f, nil
}

// unlinkedFile returns a file that goes with its last descriptor.
func unlinkedFile(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	// Some file systems, such as NFS, have no O_TMPFILE.
	f, err = os.CreateTemp(dir, "qnet-overlay-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Make writes an image without data to an empty file: a cluster each for header, refcount
// table and the only refcount block that it needs, then the L1 table. size is the disk's, in
// bytes, up to MaxSize, and rounded up to a whole sector. note is kept in the header, where
// Note finds it and QEMU leaves it alone; up to maxNote bytes, nil for none. The image names
// no backing file: an option of QEMU does.
func Make(f *os.File, size int64, note []byte) error {
	if size < 0 || size > MaxSize {
		return fmt.Errorf("disk of %d bytes is too large: at most %d", size, int64(MaxSize))
	}
	start, err := header(size, note)
	if err != nil {
		return err
	}
	used := 3 + l1Clusters(size)
	for _, part := range []struct {
		offset int64
		bytes  []byte
	}{
		{0, start},
		{clusterSize, binary.BigEndian.AppendUint64(nil, 2*clusterSize)}, // refcount table
		{2 * clusterSize, bytes.Repeat([]byte{0, 1}, int(used))},         // each cluster is used once
	} {
		if _, err := f.WriteAt(part.bytes, part.offset); err != nil {
			return err
		}
	}
	return f.Truncate(used * clusterSize) // the L1 table: zeros, all unallocated
}

func l1Entries(size int64) int64  { return (size + bytesPerL1 - 1) / bytesPerL1 }
func l1Clusters(size int64) int64 { return (l1Entries(size)*8 + clusterSize - 1) / clusterSize }

// header returns the header of a version 3 image, with the note behind it.
func header(size int64, note []byte) ([]byte, error) {
	h := Header{
		Magic: [4]byte([]byte(magic)), Version: 3, ClusterBits: clusterBits, Size: uint64(sectors(size)),
		RefcountOffset: clusterSize, RefcountClusters: 1, RefcountOrder: refcountOrder,
		L1Offset: 3 * clusterSize, L1Size: uint32(l1Entries(sectors(size))),
	}
	h.HeaderLength = uint32(binary.Size(h))
	start, err := binary.Append(nil, binary.BigEndian, h)
	if err != nil {
		return nil, err
	}
	extension, err := noteExtension(note)
	return append(start, extension...), err
}

func sectors(size int64) int64 { return (size + sectorSize - 1) / sectorSize * sectorSize }
