package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
)

// behindSudo are files opened for a user behind sudo, and a folder of that user's.
func behindSudo(t *testing.T) (*Files, string) {
	t.Helper()
	lab.Require(t, lab.Root)
	u := &asuser.User{UID: 64001, GID: 64001, Groups: []uint32{64001}}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mine := filepath.Join(dir, "mine")
	if err := errors.Join(os.Mkdir(mine, 0o755), os.Chown(mine, 64001, 64001)); err != nil {
		t.Fatal(err)
	}
	f := &Files{o: Options{User: u}, infos: map[*os.File]fs.FileInfo{}}
	t.Cleanup(f.Close)
	return f, dir
}

// A profile that names what only root may open gets what its user would: the same words for a file
// that is there and for one that is missing, by whatever way the path leads to it.
func TestNoOracleBehindSudo(t *testing.T) {
	f, dir := behindSudo(t)
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	secret, err := os.OpenFile(at("secret"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	magic := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), secret.Fd())
	if err := errors.Join(os.Mkdir(at("closed"), 0o700), os.WriteFile(at("closed/there"), nil, 0o666), os.Symlink(at("secret"), at("mine/link")),
		os.Symlink(at("closed/there"), at("mine/there")), os.Symlink(at("closed/missing"), at("mine/missing")), os.Symlink(magic, at("mine/magic")),
		unix.Mkfifo(at("mine/fifo"), 0o666), os.Chmod(at("mine/fifo"), 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []int{os.O_RDONLY, os.O_RDWR} {
		for path, want := range map[string]string{
			"/etc/shadow": "permission denied", at("secret"): "permission denied", at("mine/../secret"): "permission denied", at("mine/link"): "permission denied",
			at("closed/there"): "permission denied", at("closed/missing"): "permission denied", at("mine/there"): "permission denied", at("mine/missing"): "permission denied",
			at("closed/../closed/there"): "permission denied", magic: "permission denied", at("mine/magic"): "permission denied",
			fmt.Sprintf("/proc/self/fd/%d", secret.Fd()): "permission denied", "/proc/1/root/etc/hostname": "permission denied", "/proc/1/environ": "permission denied",
		} {
			file, err := f.open("disk", path, flags)
			var bad *FileError
			if file != nil || !errors.As(err, &bad) || bad.Err.Error() != want {
				t.Errorf("%s: %v, %v, want %s", path, file, err, want)
			}
		}
	}
	begin := time.Now()
	for _, path := range []string{at("mine/fifo"), at("mine"), "/dev/null", "/dev/tty", "/dev/ptmx", "/dev/zero", "/proc/self/fd/0/x"} {
		if file, err := f.open("disk", path, os.O_RDWR); err == nil {
			t.Errorf("%s is taken: %v", path, file)
		}
	}
	if time.Since(begin) > 5*time.Second {
		t.Error("one of them is waited for")
	}
}

// While a file of the user's changes places with links to what is forbidden, each open gives the
// user's file or an error. What was looked at is what is used: both are of one descriptor.
func TestSwappedBetweenCheckAndUse(t *testing.T) {
	f, dir := behindSudo(t)
	secret, own, path := filepath.Join(dir, "secret"), filepath.Join(dir, "mine/own"), filepath.Join(dir, "mine/disk")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.WriteFile(own, []byte("own"), 0o600), os.Chown(own, 64001, 64001)); err != nil {
		t.Fatal(err)
	}
	stop := lab.Meanwhile(func(i int) {
		fresh := path + ".new"
		os.Remove(fresh)
		switch i % 4 {
		case 0:
			os.Symlink(secret, fresh)
		case 1:
			os.Link(own, fresh)
		case 2:
			os.Link(secret, fresh)
		case 3:
			os.Symlink(own, fresh)
		}
		os.Rename(fresh, path)
	})
	opened, refused := 0, 0
	for range 1000 {
		file, err := f.open("disk", path, os.O_RDWR)
		if err != nil {
			refused++
			continue
		}
		opened++
		text := make([]byte, 10)
		n, _ := file.Read(text)
		info, statErr := f.stat(file)
		now, nowErr := file.Stat()
		if string(text[:n]) != "own" || statErr != nil || nowErr != nil || !os.SameFile(info, now) {
			t.Fatalf("it opened %q: %v, %v", text[:n], statErr, nowErr)
		}
		f.Close()
		f.infos = map[*os.File]fs.FileInfo{}
	}
	stop()
	t.Logf("%d opened, %d refused", opened, refused)
	if opened < 50 || refused < 50 {
		t.Errorf("the links took no part: %d opened, %d refused", opened, refused)
	}
}
