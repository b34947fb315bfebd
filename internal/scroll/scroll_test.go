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

// Of what a hostile guest wrote, only text comes to the terminal.
func TestHostileLog(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b]0;title\x07b":                         "ab",
		"a\x1b]52;c;cm0gLXJm\x1b\\b":                 "ab",
		"a\x1bP$q\"p\x1b\\b\x1b_x\x1b\\c\x1b^x\x07d": "abcd",
		"a\x1b[6nb\x1b[cb\x1b[21tb\x1b[>0qb\x1bZ":    "abbbb",
		"a\x1b[?1049hb\x1b[?25lc\x1b[!pd\x1b[1;2rf":  "abcdf",
		"a\x1b(0b\x0ec\x0fd\x05e\x07f\x7f":           "abcdef",
		"a\u009b2Jb\x9b2Jc\u009d0;x\x9cd":            "a2Jb2Jc0;xd",
		"größe 日本 �\r\n\t\x1b[1;31mred\x1b[0m":       "größe 日本 �\r\n\t\x1b[1;31mred\x1b[0m",
		"\x1b[5;1Hx\x1b[Jy\x1b[1Az":                  "\x1b[5;1Hx\x1b[Jy\x1b[1Az",
		"a\x1b\x1b[31mb\x1b[\x1b[2Jc":                "a\x1b[31mbc",
		"a\x1b[" + strings.Repeat("1", 80) + "mb":    "a" + strings.Repeat("1", 17) + "mb",
		"a\x1b]0;" + strings.Repeat("x", 9000):       "a",
	} {
		for _, size := range []int{1, 3, 10000} {
			var out strings.Builder
			s := &Writer{To: &out}
			for rest := in; rest != ""; {
				n := min(size, len(rest))
				s.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			if out.String() != want {
				t.Errorf("%q in pieces of %d: got %q, want %q", in, size, out.String(), want)
			}
		}
	}
}
