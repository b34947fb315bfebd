package pattern

import "testing"

// A text that is no expression is found at its first use, not before.
func TestOf(t *testing.T) {
	if digits := Of(`^\d+$`); !digits().MatchString("53") || digits().MatchString("x") || digits() != digits() {
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
