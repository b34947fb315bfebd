package guests

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/control"
)

func TestHostAddress(t *testing.T) {
	seen := func(list ...string) control.NIC {
		var n control.NIC
		for _, address := range list {
			n.Seen.Addresses = append(n.Seen.Addresses, netip.MustParseAddr(address))
		}
		return n
	}
	for want, nics := range map[string][]control.NIC{
		"10.0.0.1":   {{}, {Address: netip.MustParseAddr("10.0.0.1")}},
		"10.0.0.2":   {seen("10.0.0.2", "10.0.0.3")},
		"10.0.0.4":   {seen("fe80::1"), seen("10.0.0.4")},
		"invalid IP": {seen("fe80::1"), {}},
	} {
		if got := hostAddress(control.State{NICs: nics}); got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// There is no hint to wait for an address that qnet will never see.
func TestNoAddress(t *testing.T) {
	for _, never := range []bool{false, true} {
		e := &noAddress{"web", "no frame", never}
		if waits := strings.Contains(e.Hint(), "qnet wait"); waits == never || never != strings.Contains(e.Error(), "no NIC") {
			t.Errorf("never %t: %q, hint %q", never, e, e.Hint())
		}
	}
}
