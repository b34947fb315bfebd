package perm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// umasks are those that people run programs with, and the two ends.
var umasks = []int{0, 0o002, 0o022, 0o027, 0o077, 0o777}

// under runs f with a umask, which is the process's.
func under(umask int, f func()) {
	old := syscall.Umask(umask)
	defer syscall.Umask(old)
	f()
}

func bitsOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// everything makes one of each kind in dir, and returns the permissions it should have.
func everything(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	if err := MkdirAll(filepath.Join(dir, "a/b"), 0o750); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "a/file"), os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		err = errors.Join(Set(f, 0o640), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, network := range map[string]string{"s": "unix", "p": "unixpacket"} {
		l, err := Listen(t.Context(), network, filepath.Join(dir, "a", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	return map[string]fs.FileMode{"a": 0o750, "a/b": 0o750, "a/file": 0o640, "a/s": 0o600, "a/p": 0o600}
}

func TestWhateverTheUmask(t *testing.T) {
	for _, umask := range umasks {
		dir := t.TempDir()
		under(umask, func() {
			for name, want := range everything(t, dir) {
				if got := bitsOf(t, filepath.Join(dir, name)); got != want {
					t.Errorf("umask %04o: %s has %04o, want %04o", umask, name, got, want)
				}
			}
		})
	}
}

// A directory's default ACL, such as one for a group of administrators, takes the place of
// the umask, and a setgid directory gives its bit to those below.
func TestBelowDefaultACL(t *testing.T) {
	for _, bits := range []uint16{0, 7} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755|fs.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		acl := binary.LittleEndian.AppendUint32(nil, 2)        // ACL_EA_VERSION of linux/posix_acl_xattr.h
		for _, tag := range []uint16{0x01, 0x04, 0x10, 0x20} { // user, group, mask, other
			acl = binary.LittleEndian.AppendUint16(acl, tag)
			acl = binary.LittleEndian.AppendUint16(acl, bits)
			acl = binary.LittleEndian.AppendUint32(acl, ^uint32(0))
		}
		if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
			t.Skipf("no ACLs on %s: %v", dir, err)
		}
		for name, want := range everything(t, dir) {
			if got := bitsOf(t, filepath.Join(dir, name)); got != want {
				t.Errorf("default ACL %o: %s has %04o, want %04o", bits, name, got, want)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "a/b")); err != nil || info.Mode()&fs.ModeSetgid == 0 {
			t.Errorf("a/b: %v, %v, want setgid", info.Mode(), err)
		}
	}
}

// Other users cannot connect between bind(2) and chmod(2).
func TestPrivateFromTheStart(t *testing.T) {
	under(0, func() {
		path := filepath.Join(t.TempDir(), "s")
		config := net.ListenConfig{Control: private}
		l, err := config.Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got := bitsOf(t, path); got != Private {
			t.Errorf("after bind: %04o, want %04o", got, Private)
		}
	})
}

// What an older qnet made by its caller's umask gets what it lacks, and nothing else changes.
func TestMend(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ was, want fs.FileMode }{{0o700, 0o755}, {0, 0o755}, {0o755, 0o755}, {0o777, 0o777}} {
		path := filepath.Join(dir, fmt.Sprintf("%o", c.was))
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, c.was)); err != nil {
			t.Fatal(err)
		}
		mended, err := Mend(path, 0o755)
		if got := bitsOf(t, path); got != c.want || mended != (c.was != c.want) || err != nil {
			t.Errorf("%04o: got %04o, want %04o; mended %t, %v", c.was, got, c.want, mended, err)
		}
	}
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(target, 0o700), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, filepath.Join(dir, "missing")} {
		if mended, err := Mend(path, 0o755); mended || err != nil {
			t.Errorf("%s: mended %t, %v", path, mended, err)
		}
	}
	if got := bitsOf(t, target); got != 0o700 {
		t.Errorf("the target of a link: %04o", got)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(target, 65534, -1); err != nil {
			t.Fatal(err)
		}
		if mended, err := Mend(target, 0o755); mended || err != nil {
			t.Errorf("another user's: mended %t, %v", mended, err)
		}
	}
}

func TestMkdirAllRefuses(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("/nonexistent/x", link)); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(link, 0o755); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "it is a link to /nonexistent/x") {
		t.Errorf("a link to nothing: %v", err)
	}
	for path, want := range map[string]error{file: unix.ENOTDIR, filepath.Join(file, "x"): unix.ENOTDIR} {
		if err := MkdirAll(path, 0o755); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	if err := MkdirAll(dir, 0o777); err != nil || bitsOf(t, dir) == 0o777 {
		t.Errorf("one that exists: %v, %v", err, bitsOf(t, dir))
	}
}
