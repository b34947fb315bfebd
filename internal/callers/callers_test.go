package callers

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/perm"
)

// dialFlag makes the test binary connect to the socket behind it, and print what it reads.
const dialFlag = "dial="

func TestMain(m *testing.M) {
	if path, ok := strings.CutPrefix(os.Args[len(os.Args)-1], dialFlag); ok {
		os.Exit(dial(path))
	}
	m.Run()
}

// dial exits with 0 if the server says a word, with 1 if it hangs up, and with 2 if it cannot be
// reached.
func dial(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 2
	}
	if n, _ := c.Read(make([]byte, 9)); n == 0 {
		return 1
	}
	return 0
}

// door listens on a socket, with room for so many inside.
func door(t *testing.T, most int, users ...uint32) (*Door, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	l, err := perm.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return At(l, most, users...), path
}

// greet serves each caller with a word, until the listener is closed.
func greet(d *Door) {
	for {
		c, err := d.Next()
		if err != nil {
			return
		}
		c.Write([]byte("hello"))
		c.Close()
	}
}

// The socket's file is open to all, as by a foolish chmod: even so only root, the process's own
// user and those that it names are let in, and a stranger does not keep the others out.
func TestOnlyCertainUsersEnter(t *testing.T) {
	lab.Require(t, lab.Root)
	d, path := door(t, 1, 64001)
	go greet(d)
	exe, err := os.ReadFile("/proc/self/exe")
	binary := filepath.Join(filepath.Dir(path), "caller")
	if err := errors.Join(err, os.WriteFile(binary, exe, 0o755), os.Chmod(path, 0o777), os.Chmod(filepath.Dir(path), 0o755), os.Chmod(binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid  uint32
		want int
	}{{0, 0}, {64001, 0}, {64002, 1}, {65534, 1}, {64001, 0}} {
		cmd := exec.Command(binary, dialFlag+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: 64001}}
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("user %d: exit code %d, want %d", c.uid, got, c.want)
		}
	}
}

func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func next(t *testing.T, d *Door) *Caller {
	t.Helper()
	c, err := d.Next()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Of the callers that wait, the silent one that came first makes room: those that said what they
// want, and those inside, stay.
func TestSilentCallersMakeRoom(t *testing.T) {
	d, path := door(t, 2)
	entered := connect(t, path)
	if !next(t, d).Enter() {
		t.Fatal("there is no room inside")
	}
	said := connect(t, path)
	if _, err := said.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	waiting := next(t, d)
	var silent []net.Conn
	for range 3 * mostWaiting {
		silent = append(silent, connect(t, path))
		next(t, d)
	}
	if len(d.waiting) != mostWaiting || d.inside != 1 {
		t.Errorf("%d wait, and %d are inside", len(d.waiting), d.inside)
	}
	if n, err := waiting.Read(make([]byte, 9)); n != 7 || err != nil {
		t.Errorf("who said something: %d bytes, %v", n, err)
	}
	for i, c := range silent {
		hungUp := dismissed(t, c)
		if want := i <= 2*mostWaiting; hungUp != want {
			t.Fatalf("caller %d: hung up %t, want %t", i, hungUp, want)
		}
	}
	for what, c := range map[string]net.Conn{"who is inside": entered, "who said something": said} {
		if dismissed(t, c) {
			t.Errorf("%s was dismissed", what)
		}
	}
}

// dismissed reports whether the server hung up.
func dismissed(t *testing.T, c net.Conn) (hungUp bool) {
	t.Helper()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_DONTWAIT)
		hungUp = !errors.Is(err, unix.EAGAIN)
	})
	return hungUp
}

// So many are inside at most. Who leaves makes room, once.
func TestMostInside(t *testing.T) {
	d, path := door(t, 2)
	var in []*Caller
	for i := range 3 {
		connect(t, path)
		c := next(t, d)
		if got, want := c.Enter(), i < 2; got != want {
			t.Fatalf("caller %d enters: %t, want %t", i, got, want)
		}
		in = append(in, c)
	}
	if !in[0].Enter() || len(d.waiting) != 1 {
		t.Error("who is inside enters anew")
	}
	in[0].Close()
	in[0].Close()
	if in[0].Enter() {
		t.Error("who left is inside")
	}
	if !in[2].Enter() {
		t.Error("there is no room after one left")
	}
	connect(t, path)
	if next(t, d).Enter() {
		t.Error("one that left twice made room for two")
	}
}

// A process without descriptors lets callers in again as soon as it has one. Before, the first
// that it could not accept was the last.
func TestDoorOutlastsScarcity(t *testing.T) {
	d, path := door(t, 1)
	var all []net.Conn
	for range 2 * mostWaiting {
		all = append(all, connect(t, path))
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	free, err := unix.Dup(0) // the lowest descriptor that is free
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	const few = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + few), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	for range all {
		next(t, d)
	}
	if n := len(d.waiting); n > few || n == 0 {
		t.Errorf("%d wait, with %d descriptors", n, few)
	}
}
