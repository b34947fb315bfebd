package legible

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// What drives terminals or reorders text stays no more than text.
func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"web-1 größe 日本": "web-1 größe 日本",
		"it's":           "it's",
		"\x1b]0;t\x07":   `\x1b]0;t\a`,
		"a\r\n\tb\x7f":   `a\r\n\tb\x7f`,
		"\u009b31m":      `\u009b31m`,
		"\x9b31m\xc3":    "\uFFFD31m\uFFFD",
		"\u202egpj.exe":  `\u202egpj.exe`,
		"\u2028\ufeff":   `\u2028\ufeff`,
		"\U000e0041":     `\U000e0041`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := Lines("a\x1b\n\n\tb\r\n"); got != "a\\x1b\n\n\tb\\r\n" {
		t.Errorf("got %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[2J\u009b\x9b\u202e\U000e0041\n")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Text(s); strings.ContainsFunc(got, odd) || Text(got) != got {
			t.Errorf("%q: got %q", s, got)
		}
		if got := Lines(s); strings.ContainsFunc(got, func(r rune) bool { return oddInJSON(r) && r != '\t' }) || strings.Count(got, "\n") != strings.Count(s, "\n") {
			t.Errorf("lines of %q: got %q", s, got)
		}
		b, err := json.MarshalIndent([]string{s}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var back, was []string
		safe := JSON(b)
		if err := json.Unmarshal(safe, &back); err != nil || strings.ContainsFunc(string(safe), oddInJSON) {
			t.Fatalf("%q: %s, %v", s, safe, err)
		}
		if json.Unmarshal(b, &was) != nil || was[0] != back[0] {
			t.Errorf("%q: got %q", was, back)
		}
	})
}

// A shell reads the printed line as the arguments that were meant.
func TestWords(t *testing.T) {
	args := []string{"a", "", "a b", "it's", "$x", "*", "-o", "X=\"y\"", "ä", "a\nb", "~"}
	out, err := exec.Command("sh", "-c", `for a; do printf '%s\0' "$a"; done`, "sh").Output()
	if err != nil || len(out) != 0 {
		t.Fatal(err, out)
	}
	out, err = exec.Command("sh", "-c", `set -- `+Words(args)+`; for a; do printf '%s\0' "$a"; done`).Output()
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); err != nil || !reflect.DeepEqual(got, args) {
		t.Errorf("got %q, %v, want %q", got, err, args)
	}
}
