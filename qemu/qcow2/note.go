package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// noteType marks qnet's extension of the header. QEMU ignores types that it does not know, and
// keeps them when it writes the header anew (qcow2_update_header in block/qcow2.c).
const noteType = 0x716e6574 // "qnet"

// maxNote is how long a note may be, in bytes.
const maxNote = 16 << 10

// noteExtension returns a note as an extension of the header, and the end of all extensions.
func noteExtension(note []byte) ([]byte, error) {
	if len(note) > maxNote {
		return nil, fmt.Errorf("note of %d bytes: at most %d", len(note), maxNote)
	}
	var out []byte
	if len(note) > 0 {
		out = binary.BigEndian.AppendUint32(out, noteType)
		out = binary.BigEndian.AppendUint32(out, uint32(len(note)))
		out = append(out, note...)
		out = append(out, make([]byte, -len(note)&7)...) // extensions are padded to 8 bytes
	}
	return append(out, make([]byte, 8)...), nil
}

// Note returns what Make was told to keep in the header, nil for nothing. The guest cannot
// write there, but another program may have written the image: a note proves nothing.
func Note(f *os.File) ([]byte, error) {
	h, found, err := Read(f)
	if err != nil || !found || h.Version != 3 {
		return nil, err
	}
	end := int64(1) << min(h.ClusterBits, 21) // QEMU's own bounds: 9 to 21
	for at := int64(h.HeaderLength); at+8 <= end; {
		var head [8]byte
		if _, err := f.ReadAt(head[:], at); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		kind, length := binary.BigEndian.Uint32(head[:4]), int64(binary.BigEndian.Uint32(head[4:]))
		at += 8
		switch {
		case kind == 0 || at+length > end:
			return nil, nil
		case kind == noteType && length <= maxNote:
			note := make([]byte, length)
			_, err := f.ReadAt(note, at)
			return note, err
		}
		at += (length + 7) &^ 7
	}
	return nil, nil
}
