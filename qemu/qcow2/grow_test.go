package qcow2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// made returns a new image of a disk of that size.
func made(t *testing.T, size int64, note []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := Make(f, size, note); err != nil {
		t.Fatal(err)
	}
	return f
}

// program runs a program of QEMU's on an image, and returns what it prints.
func program(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// sound lets QEMU check an image, and returns the size of its disk.
func sound(t *testing.T, f *os.File) int64 {
	t.Helper()
	program(t, "qemu-img", "check", "-f", "qcow2", f.Name())
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(program(t, "qemu-img", "info", "--output", "json", f.Name())), &info); err != nil {
		t.Fatal(err)
	}
	return info.Size
}

// does runs a command of qemu-io, which fails where a pattern is not the wanted one.
func does(t *testing.T, f *os.File, command string) {
	t.Helper()
	if out := program(t, "qemu-io", "-f", "qcow2", "-c", command, f.Name()); strings.Contains(out, "failed") {
		t.Errorf("%s: %s", command, out)
	}
}

// What QEMU says of images that Make made, and Grow enlarged, over all sizes of the L1 table.
func TestGrow(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"), lab.Program("qemu-io"))
	for _, c := range []struct{ from, to int64 }{
		{1 << 20, 20 << 30}, {1 << 29, 1<<29 + 512}, {3 << 30, 4 << 40}, {5 << 40, 8 << 40}, {20 << 30, 20 << 30},
	} {
		f := made(t, c.from, []byte("note"))
		if got := sound(t, f); got != c.from {
			t.Errorf("made %d: got %d", c.from, got)
		}
		does(t, f, fmt.Sprintf("write -P 0x41 %d 64k", c.from-(64<<10)))
		if err := Grow(f, c.to); err != nil {
			t.Errorf("%d to %d: %v", c.from, c.to, err)
			continue
		}
		if got := sound(t, f); got != c.to {
			t.Errorf("%d to %d: got %d", c.from, c.to, got)
		}
		does(t, f, fmt.Sprintf("read -P 0x41 %d 64k", c.from-(64<<10)))
		if c.to >= c.from+(64<<10) {
			does(t, f, fmt.Sprintf("read -P 0 %d 64k", c.to-(64<<10)))
			does(t, f, fmt.Sprintf("write -P 0x42 %d 64k", c.to-(64<<10)))
		}
		sound(t, f)
		if note, err := Note(f); string(note) != "note" || err != nil {
			t.Errorf("note %q, %v", note, err)
		}
	}
}

// A part of the L1 table's last cluster that holds something else counts as empty once it is
// counted in.
func TestGrowClearsWhatItCountsIn(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"), lab.Program("qemu-io"))
	f := made(t, 1<<30, nil)
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 64), 3*clusterSize+16); err != nil {
		t.Fatal(err)
	}
	if err := Grow(f, 4<<30); err != nil {
		t.Fatal(err)
	}
	sound(t, f)
	does(t, f, "read -P 0 3G 64k")
}

// What cannot be enlarged is left as it is.
func TestGrowRefuses(t *testing.T) {
	bad := made(t, 1<<30, nil)
	if _, err := bad.WriteAt([]byte{corrupt}, 79); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		f     *os.File
		size  int64
		words string
	}{
		{"smaller", made(t, 1<<30, nil), 1 << 29, "never made smaller"},
		{"beyond the L1 table", made(t, 1<<30, nil), 5 << 40, "qemu-img resize"},
		{"corrupt", bad, 2 << 30, "corrupt"},
	} {
		before, err := os.ReadFile(c.f.Name())
		if err != nil {
			t.Fatal(err)
		}
		err = Grow(c.f, c.size)
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: got %v", c.what, err)
		}
		if after, _ := os.ReadFile(c.f.Name()); !bytes.Equal(before, after) {
			t.Errorf("%s: the image was changed", c.what)
		}
	}
	if err := Grow(made(t, 1<<30, nil), 1); !errors.Is(err, ErrShrinks) {
		t.Errorf("got %v, want ErrShrinks", err)
	}
}

// QEMU keeps the note when it writes the header anew.
func TestNoteOutlivesQEMU(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	for _, note := range []string{"", "x", "12345678", strings.Repeat("n", maxNote)} {
		f := made(t, 1<<30, []byte(note))
		sound(t, f)
		program(t, "qemu-img", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on", f.Name())
		program(t, "qemu-img", "snapshot", "-c", "s", f.Name())
		if got, err := Note(f); string(got) != note || err != nil {
			t.Errorf("got %.20q, %v, want %.20q", got, err, note)
		}
		sound(t, f)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Make(f, 1, make([]byte, maxNote+1)); err == nil {
		t.Error("a note that is too long was taken")
	}
}

// A note of another program's image is read within bounds, whatever its header says.
func FuzzNote(f *testing.F) {
	start, err := header(1<<30, []byte("note"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(start)
	f.Add(start[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(b); err != nil {
			t.Fatal(err)
		}
		if note, _ := Note(file); len(note) > maxNote {
			t.Errorf("a note of %d bytes", len(note))
		}
	})
}
