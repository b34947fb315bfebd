package host

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func TestMarks(t *testing.T) {
	if network, vm, ok := ParsePortMark(PortMark("dev", "web", 3)); !ok || network != "dev" || vm != "web" {
		t.Errorf("got %q, %q, %t", network, vm, ok)
	}
	for _, alias := range []string{"", "qnet:dev", "qnet:dev/web", "other:dev/web/0", "qnet:dev/web/0/1"} {
		if _, _, ok := ParsePortMark(alias); ok {
			t.Errorf("%q counts as the mark of a port", alias)
		}
	}
	if !(Link{Alias: NetworkMark("dev")}).Ours() || !(Link{Alias: PortMark("dev", "web", 0)}).Ours() || (Link{Alias: "mine"}).Ours() {
		t.Error("a link is not known by its mark")
	}
}

func TestSysctlKeys(t *testing.T) {
	if link, ok := ForwardingLink(ForwardingKey("eth0.7")); !ok || link != "eth0.7" {
		t.Errorf("got %q, %t", link, ok)
	}
	for _, key := range []string{IPForward, RPFilterKey("eth0"), GenModeKey("eth0"), DisableIPv6Key("eth0")} {
		if link, ok := ForwardingLink(key); ok {
			t.Errorf("%s is the forwarding of %q", key, link)
		}
	}
	if got := (LinkSysctl{Dir: "net/ipv4/conf", Name: "accept_local"}).Key("eth0"); got != "net/ipv4/conf/eth0/accept_local" {
		t.Errorf("got %s", got)
	}
	if TableName("dev") != "qnet_dev" {
		t.Errorf("got %s", TableName("dev"))
	}
}

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

func TestResolvers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions edns0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := resolvers(path); !slices.Equal(got, []netip.Addr{addr("192.0.2.53"), addr("fe80::1")}) {
		t.Errorf("got %v", got)
	}
	if got := resolvers(path + ".none"); len(got) != 0 {
		t.Errorf("of no file: %v", got)
	}
}

func TestNeighborFailedReadsTheTable(t *testing.T) {
	const table = `IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         02:00:00:00:00:01     *        eth0
192.0.2.2        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x2         02:00:00:00:00:03     *        eth1
`
	for a, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true, "192.0.2.3": false, "192.0.2.4": false} {
		if got := neighborFailed(bufio.NewScanner(strings.NewReader(table)), addr(a)); got != want {
			t.Errorf("%s: got %t, want %t", a, got, want)
		}
	}
}

func heldAddress(p string) rtnl.Address {
	a := prefix(p)
	family := byte(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	return rtnl.Address{Message: rtnl.Append(rtnl.Message{family, byte(a.Bits()), 0, 0, 2, 0, 0, 0}, rtnl.Attr{Type: unix.IFA_ADDRESS, Value: a.Addr().AsSlice()})}
}

// A neighbor is asked from the address in whose prefix it is, so that it answers.
func TestQueries(t *testing.T) {
	l := Link{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	addrs := []rtnl.Address{heldAddress("10.0.0.5/8"), heldAddress("192.0.2.10/24"), heldAddress("2001:db8::5/64")}
	for _, c := range []struct {
		addrs        []rtnl.Address
		target, from string
	}{
		{addrs, "192.0.2.1", "192.0.2.10"},
		{addrs, "203.0.113.1", "10.0.0.5"},
		{addrs, "fe80::1", "2001:db8::5"},
		{addrs[:2], "fe80::1", "invalid IP"},
	} {
		got := queries(l, c.addrs, []Neighbor{{Addr: addr(c.target), MAC: l.MAC}})
		if len(got) != 1 || got[0].From.Addr.String() != c.from || got[0].Target != addr(c.target) || got[0].Want.String() != l.MAC.String() {
			t.Errorf("%s: got %+v, want from %s", c.target, got, c.from)
		}
	}
}

// A route goes first where the kernel lists it before those that tie with it.
func TestAddRoutes(t *testing.T) {
	route := func(link uint32, metric uint32, table byte, protocol byte) rtnl.Route {
		m := rtnl.Message{unix.AF_INET, 0, 0, 0, table, protocol, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
		return rtnl.Route{Message: rtnl.Append(m, rtnl.Uint32(unix.RTA_OIF, link), rtnl.Uint32(unix.RTA_PRIORITY, metric))}
	}
	const main, local = unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL
	h := Holdings{Index: 2}
	h.addRoutes([]rtnl.Route{
		route(2, 1, main, 3), route(9, 1, main, 3), // first
		route(9, 2, main, 3), route(2, 2, main, 3), // second
		route(2, 3, main, 3), // alone
		route(2, 4, local, unix.RTPROT_KERNEL),
	})
	if len(h.Routes) != 3 || !slices.Equal(h.First, []bool{true, false, false}) {
		t.Errorf("%d routes, first %v", len(h.Routes), h.First)
	}
}

// These need no rights, and the host that runs the tests has them.
func TestObserveNetworkWithoutRights(t *testing.T) {
	f, err := ObserveNetwork()
	if err != nil {
		t.Fatal(err)
	}
	lo, ok := f.Link("lo")
	if !ok || !lo.Loopback || lo.Index == 0 || lo.Ethernet {
		t.Errorf("the loopback is %+v", lo)
	}
	if v := f.Sysctls[IPForward]; v != "0" && v != "1" {
		t.Errorf("ip_forward is %q", v)
	}
	if len(f.Rules) == 0 {
		t.Error("there is no policy rule")
	}
	if l, ok, err := ReadLink("lo"); err != nil || !ok || l.Index != lo.Index {
		t.Errorf("lo read alone: %+v, %t, %v", l, ok, err)
	}
	if _, ok, err := ReadLink("qn-none"); err != nil || ok {
		t.Errorf("no link: %t, %v", ok, err)
	}
	if _, err := ReadFIB(); err != nil {
		t.Error(err)
	}
	if _, err := ReadGateways(lo.Index); err != nil {
		t.Error(err)
	}
	addrs, err := ReadAddrs(lo.Index)
	if err != nil || lo.Up && !slices.Equal(addrs, lo.Addresses) {
		t.Errorf("addresses of lo: %v, %v; want %v", addrs, err, lo.Addresses)
	}
	if id, err := BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
	if ns, err := NetNS(); err != nil || !strings.HasPrefix(ns, "net:[") {
		t.Errorf("network namespace %q, %v", ns, err)
	}
	if BootSeconds() <= 0 {
		t.Errorf("%d s since boot", BootSeconds())
	}
}

func TestReadHoldingsWithoutRights(t *testing.T) {
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, _, err := ReadLink("lo")
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHoldings(c, lo)
	if err != nil || h.Index != lo.Index || h.Since == 0 {
		t.Errorf("got %+v, %v", h, err)
	}
	if h, err := ReadHoldings(c, Link{}); err != nil || h.Carries() {
		t.Errorf("of no link: %+v, %v", h, err)
	}
}
