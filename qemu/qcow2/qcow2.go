// Package qcow2 reads the header of qcow2 images and makes empty ones (QEMU's
// docs/interop/qcow2.txt). It runs no program and opens no file that an image names:
// QEMU refuses nothing that an image's header asks for, so qnet looks before.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	// maxOverlay is QEMU's limit of 32 MiB for the L1 table.
	maxOverlay = (32 << 20) / 8 * bytesPerL1
)

const (
	magic        = "QFI\xfb"
	externalData = 1 << 2 // bit of the incompatible features
)

// Header is the part of an image's header that qnet looks at, in its own layout.
type Header struct {
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

// Read returns the header, and whether the file has one: it begins with the magic.
func Read(f *os.File) (h Header, found bool, err error) {
	start := make([]byte, binary.Size(h))
	if _, err := f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return h, false, err
	}
	if _, err := binary.Decode(start, binary.BigEndian, &h); err != nil {
		return h, false, err
	}
	return h, string(h.Magic[:]) == magic, nil
}

// Unusable says why QEMU must not open the image, "" if it may: QEMU would open another
// file for it, or need a secret.
func (h Header) Unusable() string {
	switch {
	case h.Version != 2 && h.Version != 3:
		return fmt.Sprintf("qcow2 version %d, want 2 or 3", h.Version)
	case h.Version == 3 && h.Incompatible&externalData != 0:
		return "keeps its data in another file, which could be any file of the host; convert it with: qemu-img convert -O qcow2"
	case h.BackingOffset != 0:
		return "needs a backing file, which could be any file of the host; flatten it with: qemu-img convert -O qcow2"
	case h.Crypt != 0:
		return "is encrypted, which is not supported"
	}
	return ""
}

// NewOverlay returns an empty image of a disk of size bytes, up to 2 PiB, in an unlinked
// file in dir. It names no backing file: an option of QEMU names what lies below. The
// caller closes the file, which ends the image.
func NewOverlay(dir string, size int64) (*os.File, error) {
	if size < 0 || size > maxOverlay {
		return nil, fmt.Errorf("make overlay: disk of %d bytes is too large", size)
	}
	f, err := unlinkedFile(dir)
	if err != nil {
		return nil, fmt.Errorf("make overlay: %w", err)
	}
	if err := write(f, size); err != nil {
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

// write writes a version 3 image without data: a cluster each for header,
// refcount table and the only refcount block it needs, then the L1 table.
func write(f *os.File, size int64) error {
	size = (size + sectorSize - 1) / sectorSize * sectorSize
	entries := (size + bytesPerL1 - 1) / bytesPerL1
	l1Clusters := (entries*8 + clusterSize - 1) / clusterSize
	h := Header{
		Magic: [4]byte([]byte(magic)), Version: 3, ClusterBits: clusterBits, Size: uint64(size),
		RefcountOffset: clusterSize, RefcountClusters: 1, RefcountOrder: refcountOrder,
		L1Offset: 3 * clusterSize, L1Size: uint32(entries),
	}
	h.HeaderLength = uint32(binary.Size(h))

	used := 3 + l1Clusters
	for _, part := range []struct {
		offset int64
		data   any
	}{
		{0, h},
		{clusterSize, uint64(2 * clusterSize)}, // refcount table
		{2 * clusterSize, bytes.Repeat([]byte{0, 1}, int(used))}, // each cluster is used once
		{used*clusterSize - 1, byte(0)},                          // the L1 table: zeros, all unallocated
	} {
		var buf bytes.Buffer
		if err := binary.Write(&buf, binary.BigEndian, part.data); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf.Bytes(), part.offset); err != nil {
			return err
		}
	}
	return nil
}
