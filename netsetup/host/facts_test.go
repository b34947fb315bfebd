package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestNamesFitAndDiffer(t *testing.T) {
	long := strings.Repeat("a", 31)
	seen := map[string]string{}
	for _, vm := range []string{"web", "web1", "web-", "w", "abcdefghijkl", "abcdefghijklm", long, long[:30] + "b"} {
		for nic := range 16 {
			name := TapName(vm, nic)
			if len(name) > maxIfname {
				t.Errorf("%s is longer than %d bytes", name, maxIfname)
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%s for %s/%d and %s", name, vm, nic, other)
			}
			seen[name] = vm
		}
	}
	if got := BridgeName("dev"); got != "qn-dev" {
		t.Errorf("got %s", got)
	}
	if a, b := BridgeName(long), BridgeName(long[:30]+"b"); a == b || len(a) > maxIfname {
		t.Errorf("got %s and %s", a, b)
	}
}

// A bridge that the host's own NIC is a port of is an uplink as the NIC was; a bridge
// of VMs only is none, also with an address and a route of its own.
func TestUplinkThatIsOurBridge(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.10/24")
	f := Facts{
		Links: []Link{
			{Index: 2, Name: "eth0", Ethernet: true, Master: 20},
			{Index: 20, Name: "qn-lan", Kind: "bridge", Alias: "qnet:lan", Addresses: []netip.Prefix{prefix}},
			{Index: 21, Name: "qn-dev", Kind: "bridge", Alias: "qnet:dev", Addresses: []netip.Prefix{prefix}},
			{Index: 22, Name: "qnweb0", Kind: "tun", Alias: "qnet:dev/web/0", Master: 21},
		},
		Routes: []Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "qn-dev"}, {Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "qn-lan"}},
	}
	if got := f.Uplinks(); !slices.Equal(got, []string{"qn-lan"}) {
		t.Errorf("uplinks %v", got)
	}
	if l, ok := f.DefaultLink(); !ok || l.Name != "qn-lan" {
		t.Errorf("default link %q", l.Name)
	}
}
