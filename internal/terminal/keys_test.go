package terminal

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Ctrl-] q leaves, Ctrl-] Ctrl-] is one of them, and all else reaches the guest, however
// the keys are cut into pieces.
func TestKeyReader(t *testing.T) {
	for in, want := range map[string]string{
		"ls\n":                              "ls\n",
		"a\x1dqb":                           "a", // the rest is not read
		"a\x1dQ":                            "a",
		"\x1d\x1da":                         "\x1da",
		"\x1dxy":                            "\x1dxy",
		"\x1d\x1dq":                         "\x1dq",
		strings.Repeat("k", 5000) + "\x1dx": strings.Repeat("k", 5000) + "\x1dx",
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			left := 0
			got, err := io.ReadAll(NewKeyReader(r, func() bool { left++; return true }))
			if string(got) != want || err != nil || (left == 1) != (want == "a") {
				t.Errorf("%.20q: got %.20q, %v, left %d times", in, got, err, left)
			}
		}
	}
	got, _ := io.ReadAll(NewKeyReader(strings.NewReader("a\x1dqb"), func() bool { return false }))
	if string(got) != "ab" {
		t.Errorf("leaving refused: %q", got)
	}
}

func TestWrap(t *testing.T) {
	for in, want := range map[string]string{
		"short":                "short\r\n",
		"one two three four":   "one two\r\nthree four\r\n",
		"a/path/without/space": "a/path/wit\r\nhout/space\r\n",
		"two\nlines":           "two\r\nlines\r\n",
		"größer als zehn":      "größer als\r\nzehn\r\n",
	} {
		if got := wrap(in, 10); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
