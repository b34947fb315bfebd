// Package scroll shows a recorded console without its screen clears.
package scroll

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// Writer removes from a log what clears the screen: firmware does so at each boot, and
// would hide what the guest wrote before.
type Writer struct {
	To   io.Writer
	held []byte // the begin of an escape sequence
}

// clears removes RIS, ED 2 and 3, and the end of line wrap (console_codes(4)).
var clears = strings.NewReplacer("\x1bc", "", "\x1b[2J", "", "\x1b[3J", "", "\x1b[?7l", "")

// longestClear is the length of the longest of these sequences, in bytes.
const longestClear = len("\x1b[?7l")

// Write holds back an escape sequence that may go on, until the next Write.
func (s *Writer) Write(b []byte) (int, error) {
	all := slices.Concat(s.held, b)
	end := len(all)
	if i := bytes.LastIndexByte(all, '\x1b'); i >= 0 && len(all)-i < longestClear {
		end = i
	}
	s.held = bytes.Clone(all[end:])
	if _, err := io.WriteString(s.To, clears.Replace(string(all[:end]))); err != nil {
		return 0, err
	}
	return len(b), nil
}
