// Package qcow2 reads the header of qcow2 images, makes empty ones, and enlarges them (QEMU's
// docs/interop/qcow2.txt). It runs no program and opens no file that an image names:
// QEMU refuses nothing that an image's header asks for, so qnet looks before.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// The magic, and bits of the incompatible features.
const (
	magic        = "QFI\xfb"
	corrupt      = 1 << 1
	externalData = 1 << 2
	extendedL2   = 1 << 4
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
