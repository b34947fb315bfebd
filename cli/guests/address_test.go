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

// The IPv6 address is the reserved one where the guest shows it, else that of its MAC, else the newest;
// hosts has none of a network without IPv6 of qnet's.
func TestIPv6Address(t *testing.T) {
	nic := func(reserved string, list ...string) control.NIC {
		n := control.NIC{MAC: control.MAC{0x52, 0x54, 0, 0, 0, 9}}
		if reserved != "" {
			n.Address6 = netip.MustParseAddr(reserved)
		}
		for _, address := range list {
			n.Seen.Claims = append(n.Seen.Claims, netip.MustParseAddr(address))
		}
		return n
	}
	for _, c := range []struct {
		nics      []control.NIC
		ip, hosts string
	}{
		{[]control.NIC{nic("fd00::a", "fd00::1", "fd00::5054:ff:fe00:9", "fd00::a")}, "fd00::a", "fd00::a"},
		{[]control.NIC{nic("fd00::a", "fd00::1", "fd00::5054:ff:fe00:9")}, "fd00::5054:ff:fe00:9", "fd00::5054:ff:fe00:9"},
		{[]control.NIC{nic("fd00::a"), nic("fd00::b", "fd00::2", "fd00::1")}, "fd00::2", "fd00::2"},
		{[]control.NIC{nic("", "2001:db8::1")}, "2001:db8::1", "invalid IP"},
		{[]control.NIC{nic("fd00::a")}, "invalid IP", "invalid IP"},
	} {
		s := control.State{NICs: c.nics}
		if ip, hosts := ipv6Of(s).String(), hostAddress6(s).String(); ip != c.ip || hosts != c.hosts {
			t.Errorf("%+v: got %s and %s, want %s and %s", c.nics, ip, hosts, c.ip, c.hosts)
		}
	}
	if e := (&noAddress{"web", "ARP", false, true, true}); !strings.Contains(e.Hint(), "does not ask") {
		t.Errorf("%s", e.Hint())
	}
	if e := (&noAddress{"web", "ARP", false, true, false}); !strings.Contains(e.Error(), "IPv6") || !strings.Contains(e.Hint(), "ipv6") {
		t.Errorf("%q, hint %q", e, e.Hint())
	}
}

// There is no hint to wait for an address that qnet will never see.
func TestNoAddress(t *testing.T) {
	for _, never := range []bool{false, true} {
		e := &noAddress{"web", "no frame", never, false, false}
		if waits := strings.Contains(e.Hint(), "qnet wait"); waits == never || never != strings.Contains(e.Error(), "no NIC") {
			t.Errorf("never %t: %q, hint %q", never, e, e.Hint())
		}
	}
}
