package terminal

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// guestTerminal returns a terminal of 20 columns, and a way to see what it got up to
// some text.
func guestTerminal(t *testing.T) (*Terminal, func(last string) string) {
	t.Helper()
	ours, theirs := lab.Pty(t)
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 20}); err != nil {
		t.Fatal(err)
	}
	terminal := New(theirs, theirs)
	if terminal == nil || !terminal.HasKeys() {
		t.Fatal("a terminal is none")
	}
	return terminal, func(last string) string {
		t.Helper()
		ours.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, b := "", make([]byte, 4096)
		for !strings.HasSuffix(got, last) {
			n, err := ours.Read(b)
			if err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			got += string(b[:n])
		}
		return got
	}
}

// What qnet says begins a line and fits into the terminal's width, also in the
// middle of what the guest says; and so does what comes after the guest.
func TestTerminalOfAGuest(t *testing.T) {
	terminal, screen := guestTerminal(t)
	terminal.Say("before the guest, at any width")
	screen("before the guest, at any width\r\n")
	if err := terminal.Begin(); err != nil {
		t.Fatal(err)
	}
	terminal.Write([]byte("login: "))
	terminal.Say("web: waiting for something\nand/more/than/will/fit")
	terminal.Say("again")
	terminal.Write([]byte("# "))
	if got, want := screen("# "), "login: \r\nweb: waiting for\r\nsomething\r\nand/more/than/will/f\r\nit\r\n\ragain\r\n# "; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for range 2 {
		if err := terminal.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	terminal.Say("afterwards")
	if got, want := screen("afterwards\r\n"), sane+"\r\nafterwards\r\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What is no terminal is left alone.
func TestNoTerminalOfAGuest(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, theirs := lab.Pty(t)
	if New(theirs, f) != nil {
		t.Error("a file is a terminal")
	}
	if terminal := New(f, theirs); terminal == nil || terminal.HasKeys() {
		t.Error("a file has keys")
	}
	if terminal := New(nil, theirs); terminal == nil || terminal.HasKeys() {
		t.Error("nothing has keys")
	}
}

// A terminal that hung up is no failure of what ends after it.
func TestTerminalHangsUp(t *testing.T) {
	ours, theirs := lab.Pty(t)
	terminal := New(theirs, theirs)
	if err := terminal.Begin(); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if _, err := terminal.Write([]byte("login: ")); !errors.Is(err, unix.EIO) {
		t.Errorf("a write after the hangup: %v", err)
	}
	if err := terminal.Restore(); err != nil {
		t.Error(err)
	}
}
