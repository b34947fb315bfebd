package guest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// entry is one file of an archive.
type entry struct {
	mode       int64
	name, data string
}

// unpack reads a gzipped newc archive as the kernel does.
func unpack(t *testing.T, archive []byte) []entry {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	const header = 110
	field := func(i int) int64 { // 13 fields of 8 hexadecimal digits follow the magic
		n, err := strconv.ParseInt(string(b[6+8*i:14+8*i]), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	aligned := func(n int64) int64 { return (n + 3) / 4 * 4 }
	var list []entry
	for len(b) > 0 {
		if string(b[:6]) != "070701" {
			t.Fatalf("the header of entry %d has magic %q", len(list), b[:6])
		}
		size, start := field(6), aligned(header+field(11))
		list = append(list, entry{
			mode: field(1), name: strings.TrimRight(string(b[header:header+field(11)]), "\x00"), data: string(b[start : start+size]),
		})
		b = b[aligned(start+size):]
	}
	return list
}

func TestArchive(t *testing.T) {
	packed, err := Archive("bin/wire", []byte("12345"))
	if err != nil {
		t.Fatal(err)
	}
	got := unpack(t, packed)
	if len(got) != 2 || got[0] != (entry{0o100755, "bin/wire", "12345"}) || got[1].name != "TRAILER!!!" {
		t.Errorf("got %+v", got)
	}
}

// packages makes a busybox to be found, and returns an unpacked kernel package with one module.
func packages(t *testing.T) (tree string) {
	t.Helper()
	bin, tree := t.TempDir(), t.TempDir()
	module := filepath.Join(tree, "lib/modules/6.1/kernel/virtio-net.ko") // or virtio_net.ko
	for path, text := range map[string]string{filepath.Join(bin, "busybox"): "#!", module: "ELF"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	return tree
}

// holds fails the test unless an archive has files that hold a text.
func holds(t *testing.T, packed []byte, files map[string]string) {
	t.Helper()
	found := map[string]entry{}
	for _, e := range unpack(t, packed) {
		found[e.name] = e
	}
	for name, want := range files {
		if found[name].data != want {
			t.Errorf("%s holds %q, want %q", name, found[name].data, want)
		}
	}
}

// The guest has busybox, init, and the kernel's modules in the order to load them.
func TestInitramfs(t *testing.T) {
	packed, err := initramfs(packages(t))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, packed, map[string]string{"bin/busybox": "#!", "bin/sh": "busybox", "init": string(initScript), "lib/07-virtio_net.ko": "ELF"})
}

// Before Debian's own init, the modules of another kernel are loaded in their order.
func TestFirstArchive(t *testing.T) {
	packed, err := firstArchive(packages(t))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, packed, map[string]string{"first/busybox": "#!", "first/init": firstInit, "first/07-virtio_net.ko": "ELF"})
}

func TestScript(t *testing.T) {
	encoded, ok := strings.CutPrefix(Script("echo 'a b'\n"), "qnet.run=")
	text, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || string(text) != "echo 'a b'\n" {
		t.Errorf("got %q, %v", text, err)
	}
}
