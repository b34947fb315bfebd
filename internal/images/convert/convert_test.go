package convert

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/lab"
)

func file(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func zip(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ignore(int64) {}

// unpack expands a file. zstd runs as nobody where the test is root's.
func unpack(ctx context.Context, in, out *os.File, compression string, budget int64) error {
	u := Unpacking{Compression: compression, Budget: budget, Report: ignore, Search: os.Getenv("PATH")}
	if os.Geteuid() == 0 {
		u.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return u.Run(ctx, in, out)
}

// conversion is one that does not run as root.
func conversion(t *testing.T, in, out *os.File, budget int64) Conversion {
	t.Helper()
	c := Conversion{In: in, Out: out, Format: "raw", Search: os.Getenv("PATH"), Budget: budget, Report: func(float64) {}}
	if os.Geteuid() == 0 {
		c.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := errors.Join(in.Chmod(0o444), out.Chmod(0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Zeros become holes, and the length is right, also if the end is zeros.
func TestUnpackMakesHoles(t *testing.T) {
	content := make([]byte, 5<<20+777)
	copy(content[3<<20:], "in the middle")
	out := file(t, nil)
	var read int64
	in := zip(t, content)
	u := Unpacking{Compression: "gz", Budget: 1 << 20, Report: func(done int64) { read = done }}
	if err := u.Run(t.Context(), file(t, in), out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil || !bytes.Equal(got, content) || read != int64(len(in)) {
		t.Errorf("%d bytes, %v; %d read of %d", len(got), err, read, len(in))
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(out.Fd()), &st); err != nil || st.Blocks*512 > 256<<10 {
		t.Errorf("%d KiB on the disk, %v", st.Blocks/2, err)
	}
}

// zstd's work is as that of the others: whole, bounded, refused where it is cut, broken, followed by
// something else, or needs more memory than an image may; and it ends with its caller.
func TestUnpackZstd(t *testing.T) {
	lab.Require(t, lab.Program("zstd"))
	zst := func(content []byte, args ...string) []byte {
		cmd := exec.Command("zstd", append([]string{"-c", "-q"}, args...)...)
		cmd.Stdin = bytes.NewReader(content)
		b, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	content := make([]byte, 11<<20) // noise, and then zeros
	rand.NewChaCha8([32]byte{}).Read(content[:3<<20])
	whole, out := zst(content), file(t, nil)
	if err := unpack(t.Context(), file(t, whole), out, "zst", 1<<30); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	var bomb *BombError
	if err := unpack(t.Context(), file(t, whole), file(t, nil), "zst", 1<<20); !errors.As(err, &bomb) {
		t.Errorf("a bomb: %v", err)
	}
	for name, in := range map[string][]byte{
		"cut": whole[:len(whole)-9], "more": append(bytes.Clone(whole), "garbage"...), "another format": zip(t, content), "nothing": nil,
		"a large window": zst(make([]byte, 300<<20), "--long=28"),
	} {
		var untrusted *UntrustedError
		if err := unpack(t.Context(), file(t, in), file(t, nil), "zst", 1<<30); !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	u := Unpacking{Compression: "zst", Budget: 1 << 30, Report: func(int64) { cancel() }, Search: os.Getenv("PATH")}
	if os.Geteuid() == 0 {
		u.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	if err := u.Run(ctx, file(t, whole), file(t, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// What grows without end ends at the budget, and what is cut or broken is refused.
func TestUnpackRefuses(t *testing.T) {
	content := bytes.Repeat([]byte("boom"), 1<<20)
	whole := zip(t, content)
	var bomb *BombError
	if err := unpack(t.Context(), file(t, whole), file(t, nil), "gz", 1<<20); !errors.As(err, &bomb) || bomb.Limit != 1<<20 {
		t.Errorf("a bomb: %v", err)
	}
	for name, in := range map[string][]byte{
		"cut": whole[:len(whole)-9], "cut-in-the-middle": whole[:len(whole)/2], "nothing": nil, "text": []byte("<html>"), "more": append(bytes.Clone(whole), "garbage"...),
	} {
		var untrusted *UntrustedError
		if err := unpack(t.Context(), file(t, in), file(t, nil), "gz", 1<<30); !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, compression := range []string{"xz", "zst", "bz2"} {
		var untrusted *UntrustedError
		if err := unpack(t.Context(), file(t, whole), file(t, nil), compression, 1<<30); !errors.As(err, &untrusted) {
			t.Errorf("gz as %s: %v", compression, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := unpack(ctx, file(t, whole), file(t, nil), "gz", 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	lab.Require(t, lab.Root, lab.Program("qemu-img")) // qemu-img runs as another user
	lab.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		var content []byte
		for i := range 400_000 {
			content = fmt.Appendf(content, "%d,", i*i)
		}
		out, err := os.Create(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var full *fetch.FullError
		if err := unpack(t.Context(), file(t, zip(t, content)), out, "gz", 1<<30); !errors.As(err, &full) || full.Dir != dir {
			t.Errorf("unpack: %v", err)
		}
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		c := conversion(t, file(t, content), out, 1<<30)
		if err := c.Run(t.Context()); !errors.As(err, &full) || full.Dir != dir {
			t.Errorf("qemu-img: %v", err)
		}
	})
}

// qemu-img ends at the budget, and tells how far it is.
func TestConversion(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	content := bytes.Repeat([]byte("data"), 2<<20)
	var percent float64
	c := conversion(t, file(t, content), file(t, nil), 1<<30)
	c.Report = func(p float64) { percent = p }
	if err := c.Run(t.Context()); err != nil || percent < 99 {
		t.Errorf("got %v, at %f percent", err, percent)
	}
	if size, err := Check(c.Out, "qcow2"); err != nil || size != 8<<20 {
		t.Errorf("got %d bytes, %v", size, err)
	}
	c = conversion(t, c.In, file(t, nil), 1<<20)
	var bomb *BombError
	if err := c.Run(t.Context()); !errors.As(err, &bomb) {
		t.Errorf("a bomb: %v", err)
	}
	c.Format = "vdi"
	if err := c.Run(t.Context()); err == nil || errors.As(err, &bomb) {
		t.Errorf("no vdi: %v", err)
	}
}

// No header makes Check panic, or pass a file that names another.
func FuzzCheck(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), "qcow2")
	f.Add([]byte("KDMV\x01\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"), "vmdk")
	path := filepath.Join(f.TempDir(), "f")
	f.Fuzz(func(t *testing.T, content []byte, format string) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if size, err := Check(in, format); err == nil && (size < 0 || size > MaxSize) {
			t.Errorf("%d bytes", size)
		}
	})
}

// A compressed name tells how, whatever its case.
func TestCompression(t *testing.T) {
	for name, want := range map[string]string{"a.raw.xz": "xz", "A.QCOW2.GZ": "gz", "a.zst": "zst", "a.img": "", "bz2": "", "a.bz2": "bz2"} {
		if got := Compression(name); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
