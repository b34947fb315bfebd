package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrShrinks is wrapped by the error of Grow for a size below the disk's: what a guest has
// written there would be lost.
var ErrShrinks = errors.New("a disk is never made smaller")

// Where the header has what Grow changes. All of it lies in one sector, which a disk writes
// whole: after a crash the image has the old size or the new one.
const (
	sizeOffset   = 24
	l1SizeOffset = 36
)

// maxOffset bounds where in the file a table is: bits 9 to 55 of an entry name a cluster.
const maxOffset = 1<<56 - 1

// Grow makes the disk of an image larger. No program may have the image open. The guest finds
// zeros, or what lies below, in the new part. The L1 table stays where it is, in the clusters
// that it fills in part: of an image made by Make that is enough up to 4 TiB.
func Grow(f *os.File, size int64) error {
	h, found, err := Read(f)
	size = sectors(size)
	switch {
	case err != nil:
		return err
	case !found:
		return errors.New("it has no qcow2 header")
	case h.Unusable() != "":
		return errors.New(h.Unusable())
	case h.Version == 3 && h.Incompatible&(corrupt|extendedL2) != 0:
		return errors.New("it is marked corrupt, or has extended L2 entries; see qemu-img check")
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return fmt.Errorf("clusters of 2^%d bytes", h.ClusterBits)
	case h.L1Offset>>h.ClusterBits == 0 || h.L1Offset%(1<<h.ClusterBits) != 0 || h.L1Offset > maxOffset:
		return errors.New("its L1 table lies where none can; see qemu-img check")
	case uint64(size) < h.Size:
		return fmt.Errorf("%w: it has %d bytes, and %d are asked for", ErrShrinks, h.Size, size)
	case uint64(size) == h.Size:
		return nil
	}
	return h.grow(f, size)
}

func (h Header) grow(f *os.File, size int64) error {
	cluster := int64(1) << h.ClusterBits
	covers := cluster / 8 * cluster // by one entry of the L1 table
	have, want := int64(h.L1Size), (size+covers-1)/covers
	room := (have*8 + cluster - 1) / cluster * cluster / 8
	if want > room {
		return fmt.Errorf("its L1 table is full; enlarge it with: qemu-img resize -f qcow2 FILE %d", size)
	}
	if err := zero(f, int64(h.L1Offset)+have*8, (want-have)*8); err != nil {
		return err
	}
	fields := make([]byte, l1SizeOffset+4-sizeOffset)
	binary.BigEndian.PutUint64(fields, uint64(size))
	binary.BigEndian.PutUint32(fields[l1SizeOffset-4-sizeOffset:], h.Crypt)
	binary.BigEndian.PutUint32(fields[l1SizeOffset-sizeOffset:], uint32(max(have, want)))
	if _, err := f.WriteAt(fields, sizeOffset); err != nil {
		return err
	}
	return f.Sync()
}

// zero makes sure of zeros in a part of the file that nothing refers to yet, on the disk
// before the header counts it in.
func zero(f *os.File, offset, length int64) error {
	if length <= 0 {
		return nil
	}
	part := make([]byte, length)
	if _, err := f.ReadAt(part, offset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !nonZero(part) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, length), offset); err != nil {
		return err
	}
	return f.Sync()
}

func nonZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return true
		}
	}
	return false
}
