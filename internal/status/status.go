// Package status shows on a terminal what a command waits for, in one line that
// is gone when the wait is over.
package status

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// patience is how long is waited without a word.
const patience = 500 * time.Millisecond

// erase goes to the line's begin and clears it (console_codes(4), EL).
const erase = "\r\x1b[K"

// Line is the line. Its methods may be called from several goroutines; those of a
// nil Line, and of one that is not on a terminal, do nothing.
type Line struct {
	out *os.File

	mu     sync.Mutex // guards what follows
	text   string     // "" while nothing is waited for
	since  time.Time  // when this text was set
	shown  bool
	ticker *time.Timer // draws the line, at first when patience is over
}

// New returns a line on the writer, which shows nothing if that is no terminal, or
// one that erases nothing: kind is TERM's value, see term(7).
func New(w io.Writer, kind string) *Line {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || kind == "dumb" {
		return nil
	}
	return &Line{out: f}
}

// OnTerminal reports whether it shows anything.
func (l *Line) OnTerminal() bool { return l != nil }

// Set tells what is waited for. It is shown once something has been waited for
// for half a second; "" ends the wait and erases the line.
func (l *Line) Set(text string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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

// Erase makes way for other output; the line is back within a second, if what it
// tells of still is waited for.
func (l *Line) Erase() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hide()
}

func (l *Line) hide() {
	if l.shown {
		io.WriteString(l.out, erase) //nolint:errcheck // a terminal that is gone needs no line
	}
	l.shown = false
}

func (l *Line) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return
	}
	l.draw()
	l.ticker.Reset(time.Second)
}

// echoed is the room for what a terminal shows of Ctrl-C, in columns.
const echoed = 2

// draw writes the text and for how long it has been so, cut to the terminal's
// width: a second line could not be erased. A command in the background, whose
// terminal another one has, draws nothing.
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
