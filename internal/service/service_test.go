package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
)

// systemd reads the words of a command line as they were.
func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{
		"/usr/bin/qnet": "/usr/bin/qnet",
		"":              `""`,
		"a b":           `"a b"`,
		`say "hi"\`:     `"say \"hi\"\\"`,
		"it's":          `"it's"`,
		"100%":          "100%%",
		"$HOME ${x}":    `"$$HOME $${x}"`,
		";":             `";"`,
		"two\nlines":    `"two\x0alines"`,
		"straße/ü":      "straße/ü",
	} {
		if got := Quote(arg); got != want {
			t.Errorf("%q: got %s, want %s", arg, got, want)
		}
	}
}

// systemd finds nothing wrong with a unit, of whichever manager.
func TestUnitText(t *testing.T) {
	lab.Require(t, lab.Program("systemd-analyze"))
	for _, user := range []bool{false, true} {
		u := Unit{VM: "web", Exe: "/bin/true", Args: []string{"run", "--service", "/srv/my vms/100%.toml"}, User: user, Behind: &asuser.User{UID: 1000, GID: 100}}
		file := filepath.Join(t.TempDir(), UnitName("web"))
		if err := os.WriteFile(file, []byte(u.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := lab.Try("systemd-analyze --man=no verify " + file); err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("%v\n%s", err, out)
		}
		if !Made(u.Text()) || !strings.Contains(u.Text(), "Environment=SUDO_UID=1000 SUDO_GID=100\n") || !strings.Contains(u.Text(), `"/srv/my vms/100%%.toml"`) {
			t.Errorf("got\n%s", u.Text())
		}
	}
}

// manager stands in for a service manager's socket.
type manager struct {
	*testing.T
	*net.UnixConn
	env map[string]string
}

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return manager{t, c, map[string]string{"NOTIFY_SOCKET": path}}
}

func (m manager) getenv(key string) string { return m.env[key] }

// hears returns the next words that come within a time, "" for none.
func (m manager) hears(within time.Duration) string {
	m.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 1000)
	n, err := m.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.Fatal(err)
	}
	return string(b[:n])
}

func TestSocket(t *testing.T) {
	m := newManager(t)
	s := NewSocket(m.getenv)
	if err := s.Ready(); err != nil || m.hears(time.Second) != "READY=1\nSTATUS=running" {
		t.Error(err)
	}
	s.Busy("waiting for a download")()
	if got := m.hears(time.Second); got != "STATUS=waiting for a download\nEXTEND_TIMEOUT_USEC=60000000" {
		t.Errorf("got %q", got)
	}
	if none := NewSocket(func(string) string { return "" }); none != nil || none.Ready() != nil {
		t.Error("a socket that nobody gave")
	}
	m.Close()
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "tell the service manager") {
		t.Errorf("of a manager that is gone: %v", err)
	}
}

// A service that works says so to its manager, and one that hangs says nothing.
func TestWatch(t *testing.T) {
	m := newManager(t)
	m.env["WATCHDOG_USEC"] = "200000"
	end := make(chan struct{})
	defer close(end)
	hangs := make(chan struct{})
	go NewSocket(m.getenv).Watch(end, func(ctx context.Context) error {
		select {
		case <-hangs:
			<-ctx.Done()
			return ctx.Err()
		default:
			return nil
		}
	})
	for range 3 {
		if got := m.hears(5 * time.Second); got != "WATCHDOG=1" {
			t.Fatalf("got %q", got)
		}
	}
	close(hangs)
	m.hears(150 * time.Millisecond) // one may be on its way
	if got := m.hears(500 * time.Millisecond); got != "" {
		t.Errorf("got %q of a service that hangs", got)
	}
	m.env["WATCHDOG_PID"] = "1"
	NewSocket(m.getenv).Watch(end, nil) // another process's to tell
}

// Lines have priorities where the journal reads them, and nowhere else.
func TestJournal(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	info, err := write.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	env := map[string]string{"JOURNAL_STREAM": fmt.Sprintf("%d:%d", st.Dev, st.Ino)}
	getenv := func(key string) string { return env[key] }
	fmt.Fprint(Journal(write, getenv), "qnet: no\nhint: do\n", "warning: a\nb\n")
	env["JOURNAL_STREAM"] = "1:1"
	fmt.Fprintln(Journal(write, getenv), "qnet: no")
	write.Close()
	var got bytes.Buffer
	got.ReadFrom(read)
	if want := "<3>qnet: no\n<5>hint: do\n<4>warning: a\n<6>b\nqnet: no\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}
