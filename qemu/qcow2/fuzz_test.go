package qcow2

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// FuzzHeader reads any file as an image, and makes its disk larger: nothing panics, the file is
// read and written within bounds, and an image that would name another file is refused.
func FuzzHeader(f *testing.F) {
	good := Header{Magic: [4]byte{'Q', 'F', 'I', 0xfb}, Version: 3, ClusterBits: 16, Size: 1 << 20, L1Size: 1, L1Offset: 3 << 16, RefcountOrder: 4, HeaderLength: 104}
	for _, change := range []func(*Header){
		func(*Header) {}, func(h *Header) { h.ClusterBits = 63 }, func(h *Header) { h.L1Size = 1<<32 - 1 }, func(h *Header) { h.L1Offset = 1<<64 - 1 },
		func(h *Header) { h.Size = 1<<64 - 1 }, func(h *Header) { h.BackingOffset = 1 }, func(h *Header) { h.Incompatible = externalData }, func(h *Header) { h.ClusterBits = 9; h.L1Offset = 0 },
	} {
		h := good
		change(&h)
		var b bytes.Buffer
		if err := binary.Write(&b, binary.BigEndian, h); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), int64(2<<30))
	}
	f.Add([]byte("QFI\xfb"), int64(-1))
	path := filepath.Join(f.TempDir(), "image")
	f.Fuzz(func(t *testing.T, content []byte, size int64) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		before, found, err := Read(image)
		if err != nil || Grow(image, size) != nil {
			return
		}
		after, _, err := Read(image)
		before.Size, before.L1Size = after.Size, after.L1Size
		if !found || before.Unusable() != "" || err != nil || after != before {
			t.Errorf("%+v became %+v, %v", before, after, err)
		}
	})
}
