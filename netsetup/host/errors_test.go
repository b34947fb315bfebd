package host

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrors(t *testing.T) {
	refused := Refuse("plan network %q: no: do %w", "dev", unix.EBUSY)
	if !errors.Is(refused, ErrRefused) || !errors.Is(refused, unix.EBUSY) || errors.Is(refused, ErrNotOurs) || refused.Error() != `plan network "dev": no: do device or resource busy` {
		t.Errorf("got %v", refused)
	}
	for _, c := range []struct{ err, kind error }{{unix.EPERM, ErrNoPermission}, {unix.EOPNOTSUPP, ErrUnsupported}} {
		if got := Explain(fmt.Errorf("add: %w", c.err)); !errors.Is(got, c.kind) || !errors.Is(got, c.err) {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
	if busy := Explain(unix.EBUSY); Explain(nil) != nil || busy.Error() != unix.EBUSY.Error() {
		t.Error("other errors are changed")
	}
}
