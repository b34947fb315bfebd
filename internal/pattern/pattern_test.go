package pattern

import "testing"

// A text that is no expression is found at its first use, not before.
func TestOf(t *testing.T) {
	digits := Of(`^\d+$`)
	if first := digits(); !first.MatchString("53") || first.MatchString("x") || digits() != first {
		t.Error("an expression is another one, or compiled twice")
	}
	none := Of(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a text that is no expression was compiled")
		}
	}()
	none()
}
