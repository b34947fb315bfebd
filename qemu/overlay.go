package qemu

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
	// maxOverlay is QEMU's limit of 32 MiB for the L1 table.
	maxOverlay = (32 << 20) / 8 * bytesPerL1
)

// newOverlay returns an empty qcow2 image of size bytes in an unlinked file in
// dir. It names no backing file: an option of QEMU names what lies below.
func newOverlay(dir string, size int64) (*os.File, error) {
	if size < 0 || size > maxOverlay {
		return nil, fmt.Errorf("make overlay: disk of %d bytes is too large", size)
	}
	f, err := unlinkedFile(dir)
	if err != nil {
		return nil, fmt.Errorf("make overlay: %w", err)
	}
	if err := writeQcow2(f, size); err != nil {
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

// writeQcow2 writes a version 3 image without data: a cluster each for header,
// refcount table and the only refcount block it needs, then the L1 table.
func writeQcow2(f *os.File, size int64) error {
	size = (size + sectorSize - 1) / sectorSize * sectorSize
	entries := (size + bytesPerL1 - 1) / bytesPerL1
	l1Clusters := (entries*8 + clusterSize - 1) / clusterSize
	h := qcow2Header{
		Magic: [4]byte([]byte(qcow2Magic)), Version: 3, ClusterBits: clusterBits, Size: uint64(size),
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
