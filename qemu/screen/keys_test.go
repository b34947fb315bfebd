package screen

import (
	"reflect"
	"strings"
	"testing"
)

func TestStrokes(t *testing.T) {
	for text, want := range map[string][]Stroke{
		"":                nil,
		"aZ9":             {{"a"}, {"shift", "z"}, {"9"}},
		"a b\n":           {{"a"}, {"spc"}, {"b"}, {"ret"}},
		"_:|~>?\t":        {{"shift", "minus"}, {"shift", "semicolon"}, {"shift", "backslash"}, {"shift", "grave_accent"}, {"shift", "dot"}, {"shift", "slash"}, {"tab"}},
		"x<lt>y":          {{"x"}, {"shift", "comma"}, {"y"}},
		"<ctrl-alt-del>":  {{"ctrl", "alt", "delete"}},
		"<Ctrl-C><enter>": {{"ctrl", "c"}, {"ret"}},
		"<ctrl-\\><f12>":  {{"ctrl", "backslash"}, {"f12"}},
	} {
		got, err := Strokes(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		for _, s := range got {
			if !allKnown(s) {
				t.Errorf("%q: Type would refuse %q", text, s)
			}
		}
	}
	for text, want := range map[string]string{
		"a<b": `got "<b"`, "<>": "allowed behind <", "<nosuch>": "nosuch", "<ctrl-ctrl>": "allowed", "<ctrl->": "allowed", "grün": `'ü'`, "a\x00": "US keyboard", "\xff": "US keyboard",
		strings.Repeat("a", MaxText+1): "at most",
	} {
		if got, err := Strokes(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

// Each character that a US keyboard prints has keys.
func TestWholeKeyboard(t *testing.T) {
	for r := rune(' '); r <= '~'; r++ {
		if s := character(r); s == nil || !allKnown(s) {
			t.Errorf("%q has %q", r, s)
		}
	}
}
