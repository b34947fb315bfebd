package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A renewed address keeps all but its lifetime.
func TestSetLifetime(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, `ip link add v0 type veth peer name v1; ip link set v0 up
ip addr add 10.9.0.2/24 broadcast + dev v0 label v0:a metric 77 noprefixroute valid_lft 100 preferred_lft 90
ip -6 addr add 2001:db8::2/64 dev v0 metric 78 nodad valid_lft 100 preferred_lft 90`)
		h := newHost(t)
		l, _, err := h.Link(t.Context(), "v0")
		if err != nil {
			t.Fatal(err)
		}
		show := func() string {
			return lab.Sh(t, "ip -o -4 addr show dev v0; ip -o -6 addr show dev v0 scope global")
		}
		want := strings.NewReplacer("valid_lft 100sec", "valid_lft 5000sec", "preferred_lft 90sec", "preferred_lft 4000sec").Replace(show())
		for _, a := range []string{"10.9.0.2/24", "2001:db8::2/64"} {
			if err := SetLifetime(l, netip.MustParsePrefix(a), 5000, 4000); err != nil {
				t.Error(err)
			}
		}
		if got := show(); got != want || !strings.Contains(got, "metric 77") {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		if err := SetLifetime(l, netip.MustParsePrefix("10.9.0.3/24"), 1, 1); err == nil {
			t.Error("an address that is not there was given time")
		}
	})
}
