package machine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// image returns an open file with the given content.
func image(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk.img"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// qcow2Image returns the first cluster of an empty image, changed.
func qcow2Image(t *testing.T, change func(header []byte)) []byte {
	t.Helper()
	f, err := qcow2.NewOverlay(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	header := make([]byte, 65536)
	if _, err := f.ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	change(header)
	return header
}

func TestCheckRefusesDisks(t *testing.T) {
	as := func(change func(h []byte)) func(*testing.T) *os.File {
		return func(t *testing.T) *os.File { t.Helper(); return image(t, qcow2Image(t, change)) }
	}
	for name, test := range map[string]struct {
		file   func(*testing.T) *os.File
		format string
		want   string
	}{
		"raw-named-qcow2": {func(t *testing.T) *os.File { t.Helper(); return image(t, make([]byte, 4096)) }, "qcow2", `named qcow2, but it has no qcow2 header`},
		"empty-qcow2":     {func(t *testing.T) *os.File { t.Helper(); return image(t, nil) }, "qcow2", "no qcow2 header"},
		"external-data":   {as(func(h []byte) { h[79] |= 4 }), "qcow2", "keeps its data in another file"},
		"backing-file":    {as(func(h []byte) { binary.BigEndian.PutUint64(h[8:], 512) }), "qcow2", "needs a backing file"},
		"encrypted":       {as(func(h []byte) { h[35] = 2 }), "qcow2", "encrypted"},
		"version-1":       {as(func(h []byte) { h[7] = 1 }), "qcow2", "qcow2 version 1"},
		"no-file":         {func(*testing.T) *os.File { return nil }, "raw", "no file"},
		"directory": {func(t *testing.T) *os.File {
			t.Helper()
			f, err := os.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "raw", "neither a regular file nor a block device"},
		"opened-read-only": {func(t *testing.T) *os.File {
			t.Helper()
			f, err := os.Open(image(t, nil).Name())
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "raw", "opened for reading only"},
	} {
		t.Run(name, func(t *testing.T) {
			c := bare()
			c.Disks = []machine.Disk{{File: test.file(t), Format: test.format}}
			_, err := machine.Check(c)
			var bad *machine.ConfigError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCheckWarnsOfQcow2NamedRaw(t *testing.T) {
	c := bare()
	c.Disks = []machine.Disk{{File: image(t, qcow2Image(t, func([]byte) {})), Format: "raw"}}
	warnings, err := machine.Check(c)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "named raw") {
		t.Errorf("got %q, %v, want one warning", warnings, err)
	}
}

// One file is not two disks, by whatever name, unless both only read it.
func TestSameFileTwice(t *testing.T) {
	first := image(t, make([]byte, 1<<20))
	linked := first.Name() + ".link"
	if err := os.Link(first.Name(), linked); err != nil {
		t.Fatal(err)
	}
	second, err := os.OpenFile(linked, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	c := bare()
	for _, test := range []struct{ a, b, refused bool }{{false, false, true}, {true, false, true}, {false, true, true}, {true, true, false}} {
		c.Disks = []machine.Disk{{File: first, Format: "raw", Snapshot: test.a}, {File: second, Format: "raw", ReadOnly: test.b}}
		_, err := machine.Check(c)
		var bad *machine.ConfigError
		if errors.As(err, &bad) != test.refused || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("disk %q: it is the same file as disk %q", linked, first.Name())) {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}
