package qmp_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

const (
	greeting = `{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian"},"capabilities":["oob"]}}` + "\r\n"
	patience = 10 * time.Second
)

// pair returns both ends of a socketpair, closed with the test.
func pair(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0], conns[1]
}

// fakeQEMU is the other end of a monitor under test.
type fakeQEMU struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

type request struct {
	ID      string `json:"id"`
	Execute string `json:"execute"`
}

func (f *fakeQEMU) send(s string) {
	if _, err := io.WriteString(f.conn, s); err != nil {
		f.t.Logf("fake QEMU: %v", err)
	}
}

// next returns the next command; ok is false when the monitor hung up.
func (f *fakeQEMU) next() (r request, ok bool) {
	line, err := f.in.ReadBytes('\n')
	if err != nil {
		return request{}, false
	}
	if err := json.Unmarshal(line, &r); err != nil {
		f.t.Errorf("fake QEMU: got %q: %v", line, err)
	}
	return r, true
}

func (f *fakeQEMU) reply(r request, value string) {
	f.send(`{"return":` + value + `,"id":"` + r.ID + `"}` + "\r\n")
}

// handshake does the server's part of Connect.
func (f *fakeQEMU) handshake() {
	f.send(greeting)
	if r, ok := f.next(); ok {
		f.reply(r, "{}")
	}
}

// serve starts a fake QEMU that behaves as script says.
func serve(t testing.TB, script func(*fakeQEMU)) *qmp.Monitor {
	t.Helper()
	ours, theirs := pair(t)
	f := &fakeQEMU{t: t, conn: theirs, in: bufio.NewReader(theirs)}
	done := make(chan struct{})
	go func() { defer close(done); script(f) }()
	m := qmp.New(ours)
	t.Cleanup(func() {
		_ = m.Disconnect()
		_ = theirs.Close()
		<-done
	})
	return m
}

// connected is serve with the handshake done on both sides.
func connected(t testing.TB, script func(*fakeQEMU)) *qmp.Monitor {
	t.Helper()
	m := serve(t, func(f *fakeQEMU) { f.handshake(); script(f) })
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	return m
}

// echo answers every command with its name.
func echo(f *fakeQEMU) {
	for {
		r, ok := f.next()
		if !ok {
			return
		}
		f.reply(r, `"`+r.Execute+`"`)
	}
}

// within fails the test if f has not returned in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not done after %v", what, patience)
	}
}
