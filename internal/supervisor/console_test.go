package supervisor

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// The guest's output goes to the log, the terminal and each client; a client's keys go
// to the guest.
func TestConsole(t *testing.T) {
	guest, ours := net.Pipe()
	var log, out bytes.Buffer
	c := newConsole(ours, &log, &out)
	client, theirs := net.Pipe()
	attached := make(chan struct{})
	go func() {
		c.attach(theirs, theirs)
		close(attached)
	}()
	io.WriteString(client, "ls\n")
	b := make([]byte, 3)
	if _, err := io.ReadFull(guest, b); err != nil || string(b) != "ls\n" {
		t.Fatalf("the guest got %q, %v", b, err)
	}
	pumped := make(chan struct{})
	go func() {
		c.pump()
		close(pumped)
	}()
	io.WriteString(guest, "login: ")
	b = make([]byte, 7)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "login: " {
		t.Fatalf("the client got %q, %v", b, err)
	}
	guest.Close() // QEMU has ended
	<-pumped
	if _, err := client.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("the client stays connected: %v", err)
	}
	<-attached
	if log.String() != "login: " || out.String() != "login: " {
		t.Errorf("log %q, terminal %q", &log, &out)
	}

	late, theirs := net.Pipe()
	c.attach(theirs, theirs)
	if _, err := late.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("a client after the end: %v", err)
	}
}

// A client that does not read does not hold the guest up.
func TestSlowClient(t *testing.T) {
	c := newConsole(nil, io.Discard, io.Discard)
	_, theirs := net.Pipe()
	go c.attach(blocking{}, theirs)
	for deadline := time.Now().Add(5 * time.Second); ; {
		c.mu.Lock()
		n := len(c.clients)
		c.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not attached")
		}
		time.Sleep(time.Millisecond)
	}
	for range 2 * backlog {
		c.spread([]byte("x"))
	}
	theirs.Close()
	c.close()
}

// blocking is a keyboard without keys.
type blocking struct{}

func (blocking) Read([]byte) (int, error) { select {} }

// A log that grows too long begins anew, and the one before is kept.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second := bytes.Repeat([]byte("a"), maxLog-1), []byte("bc")
	for _, b := range [][]byte{first, second} {
		if n, err := log.Write(b); n != len(b) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	for file, want := range map[string][]byte{path: second, path + ".1": first, secret: []byte("secret")} {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", file, len(got), err, len(want))
		}
	}
	if _, err := openLog(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("a log below a file is opened")
	}
}

// Ctrl-] q leaves, Ctrl-] Ctrl-] is one of them, and all else reaches the guest, however
// the keys are cut into pieces.
func TestKeyReader(t *testing.T) {
	for in, want := range map[string]string{
		"ls\n":                              "ls\n",
		"a\x1dqb":                           "a", // the rest is not read
		"a\x1dQ":                            "a",
		"\x1d\x1da":                         "\x1da",
		"\x1dxy":                            "\x1dxy",
		"\x1d\x1dq":                         "\x1dq",
		strings.Repeat("k", 5000) + "\x1dx": strings.Repeat("k", 5000) + "\x1dx",
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			left := 0
			got, err := io.ReadAll(NewKeyReader(r, func() bool { left++; return true }))
			if string(got) != want || err != nil || (left == 1) != (want == "a") {
				t.Errorf("%.20q: got %.20q, %v, left %d times", in, got, err, left)
			}
		}
	}
	got, _ := io.ReadAll(NewKeyReader(strings.NewReader("a\x1dqb"), func() bool { return false }))
	if string(got) != "ab" {
		t.Errorf("leaving refused: %q", got)
	}
}

func TestWrap(t *testing.T) {
	for in, want := range map[string]string{
		"short":                "short\r\n",
		"one two three four":   "one two\r\nthree four\r\n",
		"a/path/without/space": "a/path/wit\r\nhout/space\r\n",
		"two\nlines":           "two\r\nlines\r\n",
		"größer als zehn":      "größer als\r\nzehn\r\n",
	} {
		if got := wrap(in, 10); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
