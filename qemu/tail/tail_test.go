package tail

import (
	"fmt"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	var all strings.Builder
	w := &Writer{Tee: &all}
	for i := range 30 {
		fmt.Fprintf(w, "line %d\n\n", i)
	}
	fmt.Fprint(w, strings.Repeat("x", 2*lineBytes))
	got := strings.Split(w.String(), "\n")
	if len(got) != tailLines || got[0] != "line 11" || got[tailLines-1] != strings.Repeat("x", lineBytes) {
		t.Errorf("got %q", got)
	}
	if !strings.HasPrefix(all.String(), "line 0\n") {
		t.Error("Tee lacks the first line")
	}
}

func TestSuffix(t *testing.T) {
	for text, want := range map[string]string{"": "", "one": ": one", "one\ntwo": ":\n  one\n  two"} {
		if got := Suffix(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
