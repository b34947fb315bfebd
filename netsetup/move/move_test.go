package move

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// toBridge is the move of the settled laptop's eth0 to a bridge that has nothing.
func toBridge() *crossing {
	return &crossing{
		from: host.Link{Index: 2, Name: "eth0", Kind: "device"}, to: host.Link{Index: 20, Name: "qn-lan", Kind: "bridge"},
		held: hosttest.Settled().NIC.Held, before: host.Holdings{Index: 20}, ra: newRASettings("1", "0", "1024"),
	}
}

// back is the way back of all that toBridge moved.
func back() *crossing {
	there := toBridge()
	x := &crossing{from: there.to, to: there.from, back: true, original: there.held, before: host.Holdings{Index: 2}, ra: there.ra}
	x.held = host.Holdings{Index: 20, First: there.held.First}
	for _, a := range there.held.Addrs {
		x.held.Addrs = append(x.held.Addrs, there.moved(a, a.SettableFlags()))
	}
	for _, r := range there.held.Routes {
		x.held.Routes = append(x.held.Routes, r.Over(2, 20))
	}
	return x
}

func words(batch []rtnl.Request) string {
	var list []string
	for _, r := range batch {
		list = append(list, r.String())
	}
	return strings.Join(list, "\n")
}

func check(t *testing.T, what string, batch []rtnl.Request, want ...string) {
	t.Helper()
	if got := words(batch); got != strings.Join(want, "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, strings.Join(want, "\n"))
	}
}

// neighbor returns an entry of the neighbor table in that state.
func neighbor(addr string, state byte) rtnl.Neighbor {
	m := rtnl.Message{unix.AF_INET, 0, 0, 0, 2, 0, 0, 0, state, 0, 0, 0}
	return rtnl.Neighbor{Message: rtnl.Append(m, rtnl.Attr{Type: unix.NDA_DST, Value: netip.MustParseAddr(addr).AsSlice()})}
}

func ruleBy(link string) rtnl.Rule {
	return rtnl.Rule{Message: rtnl.Append(rtnl.Message{unix.AF_INET, 0, 0, 0, 0, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0}, rtnl.String(unix.FRA_IIFNAME, link))}
}

func TestRequestsToTheBridge(t *testing.T) {
	x := toBridge()
	x.held.Neighs = []rtnl.Neighbor{neighbor("192.0.2.1", unix.NUD_REACHABLE), neighbor("192.0.2.7", unix.NUD_PERMANENT)}
	x.held.Rules = []rtnl.Rule{ruleBy("eth0")}
	check(t, "addresses", x.addresses(), `add address 192.0.2.10/24 to "qn-lan"`, `add address 192.0.2.11/24 to "qn-lan"`, `add address 2001:db8::10/64 to "qn-lan"`)
	check(t, "flags", x.flags(), `change address 2001:db8::10/64 of "qn-lan"`)
	check(t, "neighbors", x.neighbors(), `set neighbor 192.0.2.1 of "qn-lan"`, `set neighbor 192.0.2.7 of "qn-lan"`)
	check(t, "rules", x.rules(), `add rule for "qn-lan"`)
	check(t, "removal", x.removal(), `delete address 2001:db8::10/64 of "eth0"`, `delete address 192.0.2.11/24 of "eth0"`, `delete address 192.0.2.10/24 of "eth0"`)
	a := x.moved(x.held.Addrs[1], 0)
	if a.Label() != "qn-lan:1" || a.Prefix() != x.held.Addrs[1].Prefix() {
		t.Errorf("%s gets the label %q", a.Prefix(), a.Label())
	}
}

// The routes lead by the bridge before they no longer lead by the NIC. What the kernel added
// with the addresses goes, unless it was there before.
func TestRoutesToTheBridge(t *testing.T) {
	x := toBridge()
	own := unicast("192.0.2.0/24", unix.AF_INET, 20, netip.Addr{})
	kept := unicast("203.0.113.0/24", unix.AF_INET, 20, netip.Addr{})
	local := unicast("fe80::/64", unix.AF_INET6, 20, netip.Addr{})
	x.before.Routes = []rtnl.Route{kept}
	check(t, "routes", x.routes(host.Holdings{Routes: []rtnl.Route{local, own, kept}}),
		`add route 0.0.0.0/0 to "qn-lan"`, `add route ::/0 to "qn-lan"`,
		`delete route 0.0.0.0/0 of "eth0"`, `delete route 192.0.2.0/24 of "qn-lan"`, `delete route fe80::/64 of "qn-lan"`)
	x.held.First[0] = true
	check(t, "a route that goes first", x.routes(host.Holdings{})[:2], `add route 0.0.0.0/0 to "qn-lan"`, `add route ::/0 to "qn-lan"`)
	there := host.Holdings{Routes: []rtnl.Route{x.held.Routes[0].Over(2, 20)}}
	check(t, "one that the kernel has added", x.routes(there)[:2], `delete route 0.0.0.0/0 of "qn-lan"`, `add route 0.0.0.0/0 to "qn-lan"`)
	x.from = x.to // the bridge is gone, and its addresses with it
	check(t, "routes of a link that is gone", x.routes(host.Holdings{Routes: []rtnl.Route{own}}),
		`add route 0.0.0.0/0 to "qn-lan"`, `add route ::/0 to "qn-lan"`)
}

// unicast returns a route of the table main as the kernel lists it.
func unicast(dst string, family byte, link uint32, gateway netip.Addr, more ...rtnl.Attr) rtnl.Route {
	p := netip.MustParsePrefix(dst)
	m := rtnl.Message{family, byte(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	m = rtnl.Append(m, rtnl.Attr{Type: unix.RTA_DST, Value: p.Addr().AsSlice()}, rtnl.Uint32(unix.RTA_OIF, link))
	if gateway.IsValid() {
		m = rtnl.Append(m, rtnl.Attr{Type: unix.RTA_GATEWAY, Value: gateway.AsSlice()})
	}
	return rtnl.Route{Message: rtnl.Append(m, more...)}
}

func TestTheWayBack(t *testing.T) {
	x := back()
	check(t, "addresses", x.addresses(), `add address 192.0.2.10/24 to "eth0"`, `add address 192.0.2.11/24 to "eth0"`, `add address 2001:db8::10/64 to "eth0"`)
	check(t, "routes", x.routes(host.Holdings{}), `add route 0.0.0.0/0 to "eth0"`, `add route ::/0 to "eth0"`, `delete route 0.0.0.0/0 of "qn-lan"`)
	for i, a := range x.moving() {
		if got, want := x.moved(a, 0).Label(), x.original.Addrs[i].Label(); got != want {
			t.Errorf("%s: label %q, want %q", a.Prefix(), got, want)
		}
	}
	x.held.Rules = []rtnl.Rule{ruleBy("qn-lan")}
	if got := x.removal(); got[len(got)-1].String() != `delete rule of "qn-lan"` {
		t.Errorf("the bridge's rule stays: %s", words(got))
	}
	x.before.Addrs = x.original.Addrs[:1] // a way back that was cut off
	check(t, "what is left to add", x.addresses(), `add address 192.0.2.11/24 to "eth0"`, `add address 2001:db8::10/64 to "eth0"`)
}

// A temporary address moves only where a connection uses it, and then for no new ones.
func TestTemporaryAddresses(t *testing.T) {
	x := toBridge()
	x.held.Addrs[2] = x.held.Addrs[2].On(2, "", unix.IFA_F_TEMPORARY)
	if got := x.moving(); len(got) != 2 {
		t.Errorf("%d addresses move, want 2", len(got))
	}
	x.inUse = map[netip.Addr]bool{netip.MustParseAddr("2001:db8::10"): true}
	got := x.moving()
	if len(got) != 3 || got[2].Lifetimes() != (rtnl.Lifetimes{Preferred: 0, Valid: rtnl.Forever}) {
		t.Errorf("%d addresses move, the last one for %+v", len(got), got[len(got)-1].Lifetimes())
	}
}

func TestRASettings(t *testing.T) {
	for _, c := range []struct {
		accept, forwarding, metric string
		accepts                    bool
		temporary                  uint32
	}{
		{"1", "0", "1024", true, 1023},
		{"1", "1", "1024", false, 1023},
		{"2", "1", "300", true, 299},
		{"0", "0", "", false, 1024},
		{"", "", "", false, 1024},
		{"1", "0", "1", true, 1024},
	} {
		s := newRASettings(c.accept, c.forwarding, c.metric)
		if s.accepts != c.accepts || s.temporaryMetric() != c.temporary {
			t.Errorf("%+v: got %+v, metric %d", c, s, s.temporaryMetric())
		}
	}
}

func expires(seconds uint32) rtnl.Attr {
	v := make([]byte, 32)
	copy(v[8:], rtnl.Uint32(0, seconds*100).Value)
	return rtnl.Attr{Type: unix.RTA_CACHEINFO, Value: v}
}

// Routes by advertisements cross as the kernel's own, by ioctl.
func TestAdvertisedRoutes(t *testing.T) {
	router := netip.MustParseAddr("fe80::9")
	byRA := func(dst string) rtnl.Route {
		r := unicast(dst, unix.AF_INET6, 2, router, expires(1800), rtnl.Uint32(unix.RTA_PRIORITY, 1024), rtnl.Attr{Type: unix.RTA_PREF, Value: []byte{1}})
		r.Message[5] = unix.RTPROT_RA
		return r
	}
	x := toBridge()
	x.held.Routes, x.held.First = []rtnl.Route{byRA("::/0"), byRA("2001:db8:9::/48"), x.held.Routes[1]}, make([]bool, 3)
	got := x.advertised()
	if len(got) != 2 {
		t.Fatalf("%d routes by advertisements, want 2", len(got))
	}
	const high = 1 << 27
	if m := got[0]; m.prefix() != netip.MustParsePrefix("::/0") || m.metric != 1023 || m.info != 180000 || m.index != 20 || netip.AddrFrom16(m.gateway) != router ||
		m.flags != rtfUp|rtfGateway|rtfAddrConf|rtfExpires|rtfDefault|high {
		t.Errorf("the default route: %+v", m)
	}
	if m := got[1]; m.prefix() != netip.MustParsePrefix("2001:db8:9::/48") || m.metric != 1024 || m.flags != rtfUp|rtfGateway|rtfAddrConf|rtfExpires|rtfRouteInfo|high {
		t.Errorf("the route: %+v", m)
	}
	batch := words(x.routes(host.Holdings{}))
	if want := "add route ::/0 to \"qn-lan\"\ndelete route ::/0 of \"eth0\"\ndelete route 2001:db8:9::/48 of \"eth0\""; batch != want {
		t.Errorf("got\n%s\nwant\n%s", batch, want)
	}
	x.ra.accepts = false // a program handles advertisements
	if got := x.advertised(); len(got) != 0 {
		t.Errorf("%d routes are the kernel's where a program handles advertisements", len(got))
	}
	if size := reflect.TypeFor[in6Rtmsg]().Size(); size != 80 {
		t.Errorf("struct in6_rtmsg has %d bytes, want 80", size)
	}
}

func TestSolicitor(t *testing.T) {
	x := toBridge()
	if a, ok := x.solicitor(); ok {
		t.Errorf("%s asks for routers", a)
	}
	x.held.Addrs = append(x.held.Addrs, rtnl.Address{Message: rtnl.Append(rtnl.Message{unix.AF_INET6, 64, 0, 0, 2, 0, 0, 0},
		rtnl.Attr{Type: unix.IFA_ADDRESS, Value: netip.MustParseAddr("fe80::1").AsSlice()})})
	if a, ok := x.solicitor(); !ok || a != netip.MustParseAddr("fe80::1") {
		t.Errorf("%s asks, %t", a, ok)
	}
	x.ra.accepts = false
	if _, ok := x.solicitor(); ok {
		t.Error("it asks for what the kernel would ignore")
	}
}

func TestConnectedSockets(t *testing.T) {
	const table = `  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: B80D0120000000000000000010000000:0016 B80D0120000000000000000099000000:C001 01 00000000:00000000
   1: B80D0120000000000000000011000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: nonsense B80D0120000000000000000099000000:C001 01
`
	used := map[netip.Addr]bool{}
	addConnected(used, table)
	if got := len(used); got != 1 || !used[netip.MustParseAddr("2001:db8::10")] {
		t.Errorf("got %v", used)
	}
	for _, text := range []string{"", "0016", ":", "B80D:0016"} {
		if a, ok := procAddr(text); ok {
			t.Errorf("%q is %s", text, a)
		}
	}
	if used := connected(); used == nil {
		t.Error("no table of this host's sockets")
	}
}

func TestReadRAOfNoLink(t *testing.T) {
	if s := readRA("qn-none"); s.accepts || s.metric != defaultRAMetric || s.hasMetric {
		t.Errorf("got %+v", s)
	}
	if len(deletions(nil)) != 0 {
		t.Error("nothing is deleted by requests")
	}
}
