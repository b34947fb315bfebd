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

func TestLinksAndUplinks(t *testing.T) {
	f := Facts{
		Links: []Link{
			{Index: 1, Name: "lo", Loopback: true, Addresses: []netip.Prefix{prefix("127.0.0.1/8")}},
			{Index: 2, Name: "eth0", Addresses: []netip.Prefix{prefix("fe80::1/64"), prefix("192.0.2.10/24")}},
			{Index: 3, Name: "eth1", Addresses: []netip.Prefix{prefix("fe80::2/64")}},
			{Index: 4, Name: "docker0", Kind: "bridge", Addresses: []netip.Prefix{prefix("172.17.0.1/16")}},
			{Index: 5, Name: "br0", Kind: "bridge", Addresses: []netip.Prefix{prefix("198.51.100.1/24")}},
			{Index: 6, Name: "tun0", Kind: "tun"},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Link: ""},
			{Dst: prefix("0.0.0.0/0"), Link: "gone"},
			{Dst: prefix("0.0.0.0/0"), Link: "br0"},
			{Dst: prefix("0.0.0.0/0"), Link: "eth0"},
			{Dst: prefix("128.0.0.0/1"), Link: "tun0", Table: 77},
		},
	}
	if got := f.Uplinks(); !slices.Equal(got, []string{"eth0", "br0", "tun0"}) {
		t.Errorf("uplinks %v", got)
	}
	if l, ok := f.LANLink(""); !ok || l.Name != "br0" {
		t.Errorf("LAN by %q, %t", l.Name, ok)
	}
	if l, ok := f.LANLink("eth1"); !ok || l.Index != 3 {
		t.Errorf("LAN by %q, %t", l.Name, ok)
	}
	if l, ok := f.LinkByIndex(6); !ok || l.Name != "tun0" {
		t.Errorf("link 6 is %q, %t", l.Name, ok)
	}
	if _, ok := f.LinkByIndex(7); ok {
		t.Error("there is a link 7")
	}
	if _, ok := (Facts{}).DefaultLink(); ok {
		t.Error("a host without links has a default link")
	}
	if p, ok := f.Links[1].GlobalAddress(); !ok || p != prefix("192.0.2.10/24") {
		t.Errorf("global address %s, %t", p, ok)
	}
}
