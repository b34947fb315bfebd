// Package status shows on a terminal what a command waits for, in one line that it
// erases when the wait is over. It writes escape sequences (console_codes(4)) to the
// terminal and touches nothing else.
package status

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/qnet-vm/qnet/internal/legible"
)

// patience is how long a wait lasts before the line appears.
const patience = 500 * time.Millisecond

// erase moves to the begin of the line and clears it (console_codes(4), EL).
const erase = "\r\x1b[K"

// Line is the line. Its methods may be called concurrently. Those of a nil Line do
// nothing.
type Line struct {
	out *os.File

	mu     sync.Mutex // guards what follows
	text   string     // "" without a wait
	since  time.Time  // of this text
	shown  bool
	ticker *time.Timer // draws the line, first after patience
}

// New returns a line on a terminal. It returns nil if the writer is no terminal, or a
// terminal that cannot erase. kind is the value of TERM, see term(7).
func New(w io.Writer, kind string) *Line {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || kind == "dumb" {
		return nil
	}
	return &Line{out: f}
}

// OnTerminal reports whether the line is on a terminal.
func (l *Line) OnTerminal() bool { return l != nil }

// Set says what the command waits for. The line appears when the wait has lasted for half
// a second. "" ends the wait and erases the line.
func (l *Line) Set(text string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text = legible.Text(text)
	if text == l.text {
		return
	}
	began := l.text == ""
	l.text, l.since = text, time.Now()
	switch {
	case text == "":
		l.ticker.Stop()
		l.hide()
	case began:
		l.ticker = time.AfterFunc(patience, l.tick)
	case l.shown:
		l.draw()
	}
}

// Erase makes way for other output. The line is back within a second, unless the wait
// has ended.
func (l *Line) Erase() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hide()
}

// hide erases the line. l.mu is held, as for draw.
func (l *Line) hide() {
	if l.shown {
		io.WriteString(l.out, erase) //nolint:errcheck // a terminal that is gone needs no line
	}
	l.shown = false
}

// tick draws the line anew, next when the wait is a second longer: in even steps of a
// second it would skip one now and then.
func (l *Line) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return
	}
	l.draw()
	l.ticker.Reset(time.Second - time.Since(l.since)%time.Second)
}

// echoed is the room for "^C", which a terminal shows for Ctrl-C, in columns.
const echoed = 2

// draw writes the text and how long the wait has lasted, cut to the terminal's width,
// because a second line could not be erased. A command in the background draws nothing:
// another one has the terminal.
func (l *Line) draw() {
	if group, err := unix.IoctlGetInt(int(l.out.Fd()), unix.TIOCGPGRP); err == nil && group != unix.Getpgrp() {
		return
	}
	line := []rune(l.text)
	if waited := time.Since(l.since).Truncate(time.Second); waited > 0 {
		line = append(line, []rune(fmt.Sprintf(" (%s)", waited))...)
	}
	if width, _, err := term.GetSize(int(l.out.Fd())); err == nil && width > 0 && len(line) >= width-echoed {
		line = line[:max(width-1-echoed, 0)]
	}
	io.WriteString(l.out, erase+string(line)) //nolint:errcheck // as above
	l.shown = true
}
