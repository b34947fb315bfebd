package qemu

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

const (
	tailLines = 20
	lineBytes = 512 // what is kept of one line
)

// tail keeps the last lines written to it, however much is written, and passes
// everything on to tee.
type tail struct {
	tee io.Writer // may be nil

	mu    sync.Mutex
	lines []string // guarded by mu; whole lines, printable
	last  []byte   // guarded by mu; the line not yet ended
}

// Write takes everything: an error would make QEMU see a closed pipe.
func (t *tail) Write(p []byte) (int, error) {
	if t.tee != nil {
		_, _ = t.tee.Write(p) // a full disk under the log must not end the machine
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		t.last = append(t.last, line[:min(len(line), lineBytes-len(t.last))]...)
		if ended {
			t.endLine()
		}
		rest = after
	}
	return len(p), nil
}

func (t *tail) endLine() {
	if text := strings.TrimSpace(string(t.last)); text != "" {
		if len(t.lines) == tailLines {
			t.lines = append(t.lines[:0], t.lines[1:]...)
		}
		t.lines = append(t.lines, qmp.Printable(text))
	}
	t.last = t.last[:0]
}

// String returns the last lines without a final newline.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLine()
	return strings.Join(t.lines, "\n")
}

func (t *tail) bytes() []byte { return []byte(t.String()) }

// suffix returns the lines as they are added to an error, or "".
func (t *tail) suffix() string { return suffix(t.String()) }

// suffix puts one line behind a colon, and several below it.
func suffix(text string) string {
	switch {
	case text == "":
		return ""
	case strings.Contains(text, "\n"):
		return ":\n  " + strings.ReplaceAll(text, "\n", "\n  ")
	default:
		return ": " + text
	}
}
