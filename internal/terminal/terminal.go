// Package terminal is the user's side of a guest's console: a terminal that a guest has,
// its keys, and a stdout whose reader may go or stop to read.
package terminal

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// escape is Ctrl-], as in telnet and `virsh console`.
const escape = 0x1d

// sane undoes what firmware does to a terminal: SeaBIOS turns line wrap off, other
// firmware leaves colours or hides the cursor (console_codes(4)).
const sane = "\x1b[?7h\x1b[0m\x1b[?25h"

// Terminal is the user's terminal, which a guest's console has from Begin to Restore.
// Its methods may be called from several goroutines, and Restore more than once.
type Terminal struct {
	in  *os.File // the keyboard; nil if stdin is no terminal
	out *os.File

	mu      sync.Mutex  // guards what follows, and the order on the screen
	old     *term.State // of in before it was raw; else nil
	guest   bool        // the guest's console has it
	midLine bool        // the cursor is behind something that the guest wrote
}

// New returns the terminal that out is, nil if out is no terminal. If in is a
// terminal, too, it is the keyboard, unless the shell has put this process in its
// background: there the first look at the keyboard would stop the process (SIGTTOU).
func New(in *os.File, out io.Writer) *Terminal {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	if in != nil && (!term.IsTerminal(int(in.Fd())) || inBackground(in)) {
		in = nil
	}
	return &Terminal{in: in, out: f}
}

// inBackground reports whether this process is in the background of its terminal
// (tcgetpgrp(3)). A terminal that is not the process's own stops no process.
func inBackground(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}

// HasKeys reports whether the terminal has a keyboard.
func (t *Terminal) HasKeys() bool { return t.in != nil }

// Keys returns a reader of the keyboard, see NewKeyReader.
func (t *Terminal) Keys(leave func() (end bool)) io.Reader { return NewKeyReader(t.in, leave) }

// Begin gives the terminal to a guest. It makes the terminal raw, so that the guest gets
// every key.
func (t *Terminal) Begin() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in != nil {
		if t.old, err = term.MakeRaw(int(t.in.Fd())); err != nil {
			return err
		}
	}
	t.guest = true
	return nil
}

// Write writes the guest's output.
func (t *Terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(b) > 0 {
		t.midLine = b[len(b)-1] != '\n'
	}
	return t.out.Write(b)
}

// Say writes qnet's own text, in lines of its own. While the guest has the terminal,
// Say breaks the lines to its width: it may be raw and without line wrap.
func (t *Terminal) Say(text string) {
	if !t.lock() {
		return
	}
	defer t.mu.Unlock()
	if !t.guest {
		io.WriteString(t.out, text+"\n") //nolint:errcheck // a terminal that is gone needs no word
		return
	}
	width, _, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	io.WriteString(t.out, t.newLine()+wrap(text, width)) //nolint:errcheck // as above
	t.midLine = false
}

// newLine returns what moves the cursor to the begin of a line.
func (t *Terminal) newLine() string {
	if t.midLine {
		return "\r\n"
	}
	return "\r"
}

// wrap breaks lines that are longer than the width, in columns: at a space, or if there
// is none in their second half, at the width. It ends lines as a raw terminal needs.
func wrap(text string, width int) string {
	var b strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		rest := []rune(line)
		for len(rest) > width {
			end, next := width, width
			for i := width; i > width/2; i-- {
				if rest[i] == ' ' {
					end, next = i, i+1
					break
				}
			}
			b.WriteString(string(rest[:end]) + "\r\n")
			rest = rest[next:]
		}
		b.WriteString(string(rest) + "\r\n")
	}
	return b.String()
}

// suspend restores the terminal's mode while f stops the process, as Ctrl-Z in a shell
// does to other programs, and makes the terminal raw again if the process is then in the
// terminal's foreground.
func (t *Terminal) suspend(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.old == nil {
		f()
		return
	}
	term.Restore(int(t.in.Fd()), t.old) //nolint:errcheck // a terminal that is gone has no mode
	f()
	if t.guest && !inBackground(t.in) {
		term.MakeRaw(int(t.in.Fd())) //nolint:errcheck // as above
	}
}

// lock reports false if a Write has waited for patience: the terminal's other end does not
// read, such as that of an SSH connection that broke.
func (t *Terminal) lock() bool {
	for end := time.Now().Add(patience); !t.mu.TryLock(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(lockInterval) //nolint:forbidigo // a mutex has no wait that ends
	}
	return true
}

// lockInterval is the time between two tries to lock.
const lockInterval = 10 * time.Millisecond

// Restore takes the terminal from the guest, and restores its mode.
func (t *Terminal) Restore() error {
	if !t.lock() {
		return t.restoreMode() // only Begin changes what this reads, and has returned
	}
	defer t.mu.Unlock()
	if !t.guest {
		return nil
	}
	t.guest = false
	io.WriteString(t.out, sane+t.newLine()) //nolint:errcheck // cosmetics
	return t.restoreMode()
}

// restoreMode makes the keyboard what it was. A terminal that hung up has no mode.
func (t *Terminal) restoreMode() error {
	if t.old == nil {
		return nil
	}
	if err := term.Restore(int(t.in.Fd()), t.old); !errors.Is(err, unix.EIO) {
		return err
	}
	return nil
}

// KeyReader passes keys on to the guest, but calls leave for Ctrl-] q. Ctrl-] twice
// passes one on.
type KeyReader struct {
	r       io.Reader
	leave   func() (end bool)
	escaped bool
}

// NewKeyReader reads keys from r. It ends when leave returns true.
func NewKeyReader(r io.Reader, leave func() (end bool)) *KeyReader {
	return &KeyReader{r: r, leave: leave}
}

// Read reads the keys for the guest.
func (k *KeyReader) Read(p []byte) (int, error) {
	in := make([]byte, max(len(p)/2, 1)) // Ctrl-] and another key come out as two
	for {
		n, err := k.r.Read(in)
		out := p[:0]
		for _, b := range in[:n] {
			switch {
			case k.escaped && (b == 'q' || b == 'Q'):
				k.escaped = false
				if k.leave() {
					return len(out), io.EOF
				}
			case k.escaped:
				k.escaped = false
				if b != escape {
					out = append(out, escape)
				}
				out = append(out, b)
			case b == escape:
				k.escaped = true
			default:
				out = append(out, b)
			}
		}
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
}
