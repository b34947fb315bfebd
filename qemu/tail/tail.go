// Package tail keeps the last lines that a program wrote, for the errors that tell of its
// end.
package tail

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/qnet-vm/qnet/internal/legible"
)

const (
	tailLines = 20
	lineBytes = 512 // what is kept of one line
)

// Writer keeps the last lines written to it, however much is written, and passes
// everything on to Tee. It may be used concurrently.
type Writer struct {
	Tee io.Writer // may be nil

	mu    sync.Mutex
	lines []string // guarded by mu; whole lines, printable
	last  []byte   // guarded by mu; the line not yet ended
}

// Write takes everything: an error would make QEMU see a closed pipe.
func (t *Writer) Write(p []byte) (int, error) {
	if t.Tee != nil {
		_, _ = t.Tee.Write(p) // a full disk under the log must not end the machine
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

func (t *Writer) endLine() {
	if text := strings.TrimSpace(string(t.last)); text != "" {
		if len(t.lines) == tailLines {
			t.lines = append(t.lines[:0], t.lines[1:]...)
		}
		t.lines = append(t.lines, legible.Text(text))
	}
	t.last = t.last[:0]
}

// String returns the last lines without a final newline.
func (t *Writer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLine()
	return strings.Join(t.lines, "\n")
}

// Suffix returns the lines as they are added to an error, or "".
func (t *Writer) Suffix() string { return Suffix(t.String()) }

// Suffix puts one line behind a colon, and several below it.
func Suffix(text string) string {
	switch {
	case text == "":
		return ""
	case strings.Contains(text, "\n"):
		return ":\n  " + strings.ReplaceAll(text, "\n", "\n  ")
	default:
		return ": " + text
	}
}
