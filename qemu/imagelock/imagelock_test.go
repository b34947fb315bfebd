package imagelock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// image makes an image and opens it as another program would.
func image(t *testing.T) (path string, f *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "d.raw")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

// lock takes a lock of QEMU's kind by a description of its own.
func lock(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}); err != nil {
		t.Fatal(err)
	}
}

// What one does and forbids decides whether another can use the image.
func TestCheckByMeaning(t *testing.T) {
	for _, c := range []struct {
		held        []int64
		read, write bool // are allowed beside it
	}{
		{nil, true, true},
		{[]int64{100}, true, true}, // one that reads and forbids nothing, such as qemu-img --force-share
		{[]int64{100, 201}, true, false},
		{[]int64{100, 101, 201}, false, false},
		{[]int64{100, 101}, false, false},
		{[]int64{200}, false, false},
		{[]int64{103, 203}, true, true}, // sizes: not qnet's matter
	} {
		path, f := image(t)
		for _, at := range c.held {
			lock(t, path, at)
		}
		if err := Check(f, false); (err == nil) != c.read {
			t.Errorf("%v: to read: %v", c.held, err)
		}
		if err := Check(f, true); (err == nil) != c.write {
			t.Errorf("%v: to write: %v", c.held, err)
		}
	}
}

// An own lock is no conflict: it belongs to the description that QEMU gets.
func TestCheckOfAnOwnLock(t *testing.T) {
	_, f := image(t)
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: writes, Len: 1}); err != nil {
		t.Fatal(err)
	}
	if err := Check(f, true); err != nil {
		t.Errorf("got %v", err)
	}
}

// run starts a QEMU program that has the image open, and waits until it has it locked.
func run(t *testing.T, f *os.File, args ...string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, bufio.NewReader(out))
	t.Cleanup(func() {
		in.Close()
		cancel()
		cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); Check(f, true) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v does not lock the image", args)
		}
	}
	return cmd.Process.Pid
}

// Real programs are found by their locks, also by another name of the image.
func TestHolders(t *testing.T) {
	lab.Require(t, lab.QEMU, lab.Program("qemu-io"))
	machine := []string{"qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-machine", "none"}
	drive := func(path, read string) []string {
		return []string{"-blockdev", fmt.Sprintf(`{"driver":"raw","node-name":"n","read-only":%s,"file":{"driver":"file","filename":%q}}`, read, path), "-device", "virtio-blk-pci,drive=n"}
	}
	for name, c := range map[string]struct {
		args  func(path string) []string
		want  string
		reads bool // beside it an image can be read
	}{
		"named": {func(path string) []string {
			return append(append(machine[:6:6], "q35", "-name", "guest=web,debug-threads=off"), drive(path, "false")...)
		}, `VM "web" (process %d)`, false},
		"short": {func(path string) []string {
			return append(append(machine[:6:6], "q35", "-name", "web"), drive(path, "true")...)
		}, `VM "web" (process %d)`, true},
		"no-vm": {func(path string) []string { return []string{"qemu-io", "-f", "raw", path} }, "qemu-io (process %d)", false},
	} {
		t.Run(name, func(t *testing.T) {
			path, f := image(t)
			other := path + ".link"
			if err := os.Link(path, other); err != nil {
				t.Fatal(err)
			}
			pid := run(t, f, c.args(other)...)
			err := Check(f, true)
			want := fmt.Sprintf("open disk %q: it is in use by ", path) + fmt.Sprintf(c.want, pid)
			if !errors.Is(err, ErrInUse) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if err := Check(f, false); (err == nil) != c.reads {
				t.Errorf("to read: %v", err)
			}
		})
	}
}

// A holder that cannot be found is said to be one.
func TestUnseenHolder(t *testing.T) {
	path, f := image(t)
	lock(t, path, writes) // of this process, which never counts
	if err := Check(f, false); err == nil || !strings.Contains(err.Error(), "cannot be seen from here") {
		t.Errorf("got %v", err)
	}
}

func TestGuestName(t *testing.T) {
	for want, args := range map[string][]string{
		"web": {"-name", "guest=web"}, "a": {"-name", "a,process=p"}, "b": {"x", "-name", "debug-threads=on,guest=b"}, "": {"-name"},
	} {
		if got := guestName(args); got != want {
			t.Errorf("%v: got %q, want %q", args, got, want)
		}
	}
}
