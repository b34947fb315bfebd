package scroll

import (
	"strings"
	"testing"
)

// However a log is cut into pieces, what clears the screen does not get through, and
// all else does.
func TestScroll(t *testing.T) {
	const log = "panic\r\n\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\x1b[3J \x1b[1;31mred\x1b[0m text\x1b[2K\r\n# "
	const want = "panic\r\n\x1b[0mSeaBIOS \x1b[1;31mred\x1b[0m text\x1b[2K\r\n# "
	for size := 1; size <= len(log); size++ {
		var out strings.Builder
		s := &Writer{To: &out}
		for rest := log; rest != ""; {
			n := min(size, len(rest))
			if got, err := s.Write([]byte(rest[:n])); got != n || err != nil {
				t.Fatalf("%d, %v", got, err)
			}
			rest = rest[n:]
		}
		if out.String() != want {
			t.Errorf("in pieces of %d: %q", size, out.String())
		}
	}
}
