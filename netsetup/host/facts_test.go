package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/ways"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

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
		Ways:   []ways.Way{{Link: 21}, {Link: 20}},
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
			{Index: 2, Name: "eth0", Ethernet: true, Addresses: []netip.Prefix{prefix("fe80::1/64"), prefix("192.0.2.10/24")}},
			{Index: 3, Name: "eth1", Addresses: []netip.Prefix{prefix("fe80::2/64")}},
			{Index: 4, Name: "docker0", Kind: "bridge", Addresses: []netip.Prefix{prefix("172.17.0.1/16")}},
			{Index: 5, Name: "br0", Kind: "bridge", Ethernet: true, Addresses: []netip.Prefix{prefix("198.51.100.1/24")}},
			{Index: 6, Name: "tun0", Kind: "tun"},
			{Index: 7, Name: "tun1", Kind: "tun"},
			{Index: 8, Name: "vmbr1", Kind: "bridge", Addresses: []netip.Prefix{prefix("203.0.113.1/24")}},
			{Index: 9, Name: "eth2", Kind: "device", Master: 8, Addresses: []netip.Prefix{prefix("203.0.113.9/24")}},
			{Index: 10, Name: "virbr1", Kind: "bridge", Addresses: []netip.Prefix{prefix("192.168.122.1/24")}},
			{Index: 11, Name: "vnet0", Kind: "tun", Master: 10},
			{Index: 12, Name: "vrf0", Kind: "vrf"},
			{Index: 13, Name: "eth3", Master: 12, Addresses: []netip.Prefix{prefix("198.18.0.1/24")}},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Link: ""},
			{Dst: prefix("0.0.0.0/0"), Link: "gone"},
			{Dst: prefix("0.0.0.0/0"), Link: "br0"},
			{Dst: prefix("0.0.0.0/0"), Link: "eth0"},
			{Dst: prefix("128.0.0.0/1"), Link: "tun0", Table: 77},
			{Dst: prefix("10.0.0.0/8"), Link: "tun1", Table: 254},
			{Dst: prefix("203.0.113.0/24"), Link: "vmbr1", Table: 254},
			{Dst: prefix("192.168.122.0/24"), Link: "virbr1", Table: 254},
			{Dst: prefix("172.17.0.1/32"), Link: "docker0", Table: 255},
		},
		Ways: []ways.Way{{Link: 99}, {Link: 6}, {Link: 5}, {Link: 2, IPv6: true}},
	}
	if got := f.Uplinks(); !slices.Equal(got, []string{"tun0", "eth0", "br0", "eth3"}) {
		t.Errorf("uplinks %v", got)
	}
	if got := f.Beside(); !slices.Equal(got, []string{"tun1", "vmbr1"}) {
		t.Errorf("beside them %v", got)
	}
	if l, ok := f.DefaultLink(); !ok || l.Name != "tun0" {
		t.Errorf("default link %q, %t", l.Name, ok)
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
	if _, ok := f.LinkByIndex(99); ok {
		t.Error("there is a link 99")
	}
	if _, ok := (Facts{}).DefaultLink(); ok {
		t.Error("a host without links has a default link")
	}
	if p, ok := f.Links[1].GlobalAddress(); !ok || p != prefix("192.0.2.10/24") {
		t.Errorf("global address %s, %t", p, ok)
	}
}
