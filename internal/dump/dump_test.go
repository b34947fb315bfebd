package dump

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name        string
		interrupted int // times, from the first on
		err         error
		calls       int
		want        error
	}{
		{"at once", 0, nil, 1, nil},
		{"changed twice", 2, nil, 3, nil},
		{"changed until the last try", tries - 1, nil, tries, nil},
		{"changes all the time", tries + 1, nil, tries, netlink.ErrDumpInterrupted},
		{"refused", 0, refused, 1, refused},
		{"changed, then refused", 1, refused, 2, refused},
	} {
		calls := 0
		got, err := Whole(func() (int, error) {
			calls++
			if calls <= c.interrupted {
				return calls, netlink.ErrDumpInterrupted
			}
			return calls, c.err
		})
		if calls != c.calls || got != calls || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %d calls, got %d, %v", c.name, calls, got, err)
		}
	}
}
