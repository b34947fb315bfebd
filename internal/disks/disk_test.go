package disks

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// base makes a raw base of a MiB and returns it open.
func base(t *testing.T, dir string) *os.File {
	t.Helper()
	path := filepath.Join(dir, "base.raw")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0x11}, 1<<20), 0o444); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func overlay(dir string, b *os.File) Disk {
	return Disk{File: filepath.Join(dir, "disk.qcow2"), Format: Qcow2, Base: Pin{Path: b.Name(), Format: Raw}}
}

// An overlay is made once, of the base's size or more, is found again, and grows.
func TestOverlay(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	dir := t.TempDir()
	b := base(t, dir)
	d := overlay(dir, b)
	digests := Digests{Context: t.Context(), Ledger: filepath.Join(dir, "digests.json")}
	if found, err := d.Look(b, Digests{Unread: true}); err != nil || !found.Missing || found.Size != 1<<20 || found.Pin.Digest != "" {
		t.Errorf("look: %+v, %v", found, err)
	}
	if got := lab.Names(t, dir); got != "base.raw" {
		t.Errorf("a look made %s", got)
	}
	found, err := d.Ready(b, digests)
	if err != nil || !found.Missing || !strings.HasPrefix(found.Pin.Digest, "sha256:") {
		t.Fatalf("ready: %+v, %v", found, err)
	}
	pin, pinned, err := PinOf(d.File)
	if err != nil || !pinned || pin != found.Pin {
		t.Errorf("pin %+v, %t, %v; want %+v", pin, pinned, err, found.Pin)
	}
	d.Size = 20 << 30
	if found, err := d.Ready(b, digests); err != nil || found.Missing || !found.Grows || found.Size != d.Size {
		t.Errorf("grow: %+v, %v", found, err)
	}
	if found, err := d.Ready(b, digests); err != nil || found.Missing || found.Grows {
		t.Errorf("again: %+v, %v", found, err)
	}
	if out, err := exec.Command("qemu-img", "check", d.File).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	d.Size = 1 << 30
	if _, err := d.Ready(b, digests); err == nil || !strings.Contains(err.Error(), "it has 20 GiB, and the profile says 1 GiB: a disk is never made smaller") {
		t.Errorf("shrink: %v", err)
	}
}

// A base of the same path but other bytes is refused, and one that was only touched is not.
func TestOtherBase(t *testing.T) {
	dir := t.TempDir()
	b := base(t, dir)
	d := overlay(dir, b)
	digests := Digests{Context: t.Context(), Ledger: filepath.Join(dir, "digests.json")}
	if _, err := d.Ready(b, digests); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.Name(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ready(b, digests); err != nil {
		t.Errorf("touched: %v", err)
	}
	changed := bytes.Repeat([]byte{0x11}, 1<<20)
	changed[777] = 0
	if err := os.WriteFile(b.Name(), changed, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := d.Ready(b, digests)
	if !errors.Is(err, ErrOtherBase) || !strings.Contains(err.Error(), b.Name()) {
		t.Errorf("changed: %v", err)
	}
	var own *Error
	if !errors.As(err, &own) || !strings.Contains(own.Hint(), d.File) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(d.File); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ready(b, digests); err != nil {
		t.Errorf("anew: %v", err)
	}
}

// What is no overlay of qnet's, and bases that cannot be one, are refused.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	b := base(t, dir)
	foreign := overlay(dir, b)
	foreign.File = filepath.Join(dir, "foreign.qcow2")
	f, err := os.Create(foreign.File)
	if err == nil {
		err = errors.Join(qcow2.Make(f, 1<<20, nil), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	small := overlay(dir, b)
	small.Size = 1 << 19
	named := overlay(dir, b)
	named.Base.Format = Qcow2
	for _, c := range []struct {
		d     Disk
		words string
	}{
		{foreign, "it is no overlay that qnet made"},
		{small, "has 1 MiB, more than the 512 KiB"},
		{named, "as a base: named qcow2, but it has no qcow2 header"},
	} {
		if _, err := c.d.Ready(b, Digests{}); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("got %v, want %q", err, c.words)
		}
	}
	if got := lab.Names(t, dir); got != "base.raw foreign.qcow2" {
		t.Errorf("refusals made %s", got)
	}
}

// New disks are sparse, and of the size that the guest sees.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	for _, format := range []string{Raw, Qcow2} {
		d := Disk{File: filepath.Join(dir, "d."+format), Format: format, Size: 10 << 30}
		found, err := d.Ready(nil, Digests{})
		if err != nil || !found.Missing {
			t.Fatalf("%s: %+v, %v", format, found, err)
		}
		d.Size = 11 << 30
		if found, err := d.Ready(nil, Digests{}); err != nil || !found.Grows {
			t.Errorf("%s: %+v, %v", format, found, err)
		}
		d.Size = 0
		if found, err := d.Look(nil, Digests{}); err != nil || found.Size != 11<<30 {
			t.Errorf("%s: %+v, %v", format, found, err)
		}
		if used := Used(d.File); used > 1<<20 {
			t.Errorf("%s: %d bytes are used", format, used)
		}
	}
}

// Many that want the digest of one base at once read it once.
func TestDigestIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	b := base(t, dir)
	reads := make(chan string, 30)
	digests := Digests{Context: t.Context(), Ledger: filepath.Join(dir, "digests.json"), Reads: func(path string) { reads <- path }}
	results := make(chan string, 20)
	for range 20 {
		go func() {
			f, err := os.Open(b.Name())
			if err == nil {
				defer f.Close()
				var digest string
				digest, err = digests.Of(f)
				results <- digest
			}
			if err != nil {
				t.Error(err)
				results <- ""
			}
		}()
	}
	first := <-results
	for range 19 {
		if got := <-results; got != first || got == "" {
			t.Errorf("got %q and %q", first, got)
		}
	}
	if len(reads) != 1 {
		t.Errorf("the base was read %d times", len(reads))
	}
	if err := os.WriteFile(digests.Ledger, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := digests.Of(b); got != first || err != nil {
		t.Errorf("with a damaged ledger: %q, %v", got, err)
	}
}

// Where nothing can be written, nothing is left.
func TestNoPlace(t *testing.T) {
	dir := t.TempDir()
	d := Disk{File: filepath.Join(dir, "none", "d.raw"), Format: Raw, Size: 1 << 20}
	if _, err := d.Ready(nil, Digests{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), d.File) {
		t.Errorf("got %v", err)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 512: "512 B", 3 << 29: "1.5 GiB", 20 << 30: "20 GiB", 5 << 40: "5 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{20 << 30: "20GiB", 1<<30 + 1: "1025MiB", 5 << 20: "5MiB"} {
		if got := sizeKey(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
