// Package scroll shows a recorded console without what would do more to a terminal than write.
package scroll

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Writer lets pass, of a log, text, its colours and moves of the cursor. It removes what clears
// the screen: firmware does so at each boot, and would hide what the guest wrote before. And it
// removes all that a hostile guest may send to the terminal of who looks at its log: titles,
// the clipboard (OSC), modes, other character sets, and questions, whose answers a terminal
// types into the shell that comes next (console_codes(4), ctlseqs of xterm).
type Writer struct {
	To       io.Writer
	held     []byte // the begin of a sequence or of a rune
	swallows bool   // within a string, such as OSC
}

const esc = '\x1b'

// longest is how long a sequence may be, in bytes. A longer one is removed in parts.
const longest = 64

// Write holds back a sequence that may go on, until the next Write.
func (s *Writer) Write(b []byte) (int, error) {
	var out []byte
	rest := append(bytes.Clone(s.held), b...)
	for len(rest) > 0 {
		n, keep := s.next(rest)
		if n == 0 {
			break
		}
		if keep {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	s.held = bytes.Clone(rest)
	if _, err := s.To.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// next returns the length of what b begins with, and whether it passes; 0 if its end is not there
// yet.
func (s *Writer) next(b []byte) (n int, keep bool) {
	switch {
	case b[0] == esc && len(b) == 1:
		return 0, false
	case b[0] == esc && b[1] == '\\':
		s.swallows = false
		return 2, false
	case s.swallows && b[0] == '\a':
		s.swallows = false
		return 1, false
	case b[0] == esc:
		s.swallows = strings.ContainsRune("]P_^X", rune(b[1]))
		return sequence(b)
	case s.swallows:
		return 1, false
	}
	return character(b)
}

// character is next for one that no sequence begins with.
func character(b []byte) (n int, keep bool) {
	if !utf8.FullRune(b) {
		return 0, false
	}
	r, n := utf8.DecodeRune(b)
	odd := unicode.IsControl(r) && !strings.ContainsRune("\r\n\t\b", r) || r == utf8.RuneError && n == 1
	return n, !odd
}

// sequence is next for one that begins with ESC and a further byte.
func sequence(b []byte) (n int, keep bool) {
	for n = 1; n < len(b); n++ {
		switch c := b[n]; {
		case c < ' ': // it ends here, unfinished
			return n, false
		case n == 1 && c == '[', c >= ' ' && c < '0', n > 1 && c < '@' && b[1] == '[': // what comes before the last byte
		default:
			return n + 1, b[1] == '[' && moves(string(b[2:n]), c)
		}
		if n == longest {
			return n + 1, false
		}
	}
	return 0, false
}

// moves reports whether a control sequence (CSI) with these parameters colours text, moves the
// cursor or erases within the line.
func moves(parameters string, last byte) bool {
	if strings.Trim(parameters, "0123456789;:") != "" {
		return false
	}
	return strings.ContainsRune("mKABCDEFGHf", rune(last)) || last == 'J' && parameters != "2" && parameters != "3"
}
