package order

import (
	"slices"
	"testing"
)

func TestBy(t *testing.T) {
	list := []string{"bb", "a", "ccc", "aa", "c"}
	By(list, func(a, b string) int { return len(a) - len(b) })
	if want := []string{"a", "c", "bb", "aa", "ccc"}; !slices.Equal(list, want) {
		t.Errorf("got %q, want %q", list, want)
	}
}
