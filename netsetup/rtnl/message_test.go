package rtnl

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// What the kernel listed when testdata was captured is shown by the commands of then.
func TestCommandsOfCapture(t *testing.T) {
	c := load(t)
	got := c.commands()
	for i, want := range c.Commands {
		if i >= len(got) || got[i] != want {
			t.Errorf("command %d: got %q, want %q", i, slices.Concat(got, make([]string, i+1))[i], want)
		}
	}
	if len(got) != len(c.Commands) {
		t.Errorf("got %d commands, want %d", len(got), len(c.Commands))
	}
}

func (c capture) address(t *testing.T, prefix string) Address {
	t.Helper()
	i := slices.IndexFunc(c.Addresses, func(a Address) bool { return a.Prefix() == netip.MustParsePrefix(prefix) })
	if i < 0 {
		t.Fatalf("the capture has no address %s", prefix)
	}
	return c.Addresses[i]
}

func (c capture) route(t *testing.T, dst string, metric uint32) Route {
	t.Helper()
	i := slices.IndexFunc(c.Routes, func(r Route) bool { return r.Dst() == netip.MustParsePrefix(dst) && r.Metric() == metric })
	if i < 0 {
		t.Fatalf("the capture has no route to %s", dst)
	}
	return c.Routes[i]
}

func TestAddressFields(t *testing.T) {
	c := load(t)
	a := c.address(t, "192.0.2.11/24")
	if l := a.Lifetimes(); !a.Dynamic() || l.Valid > 1000000 || l.Valid < 999000 || l.Preferred > 500000 || l.Preferred < 499000 {
		t.Errorf("lifetimes %+v", a.Lifetimes())
	}
	if a.Label() != "d0:x" || a.Family() != unix.AF_INET || a.Bits() != 24 || a.PassedDAD() || a.Temporary() || a.UsableFlags() != a.SettableFlags() {
		t.Errorf("%s: label %q, flags %x", a.Prefix(), a.Label(), a.Flags())
	}
	if peer, ok := c.address(t, "10.0.0.1/32").Peer(); !ok || peer != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("peer %s, %t", peer, ok)
	}
	if _, ok := a.Peer(); ok {
		t.Errorf("%s has a peer", a.Prefix())
	}
	v6 := c.address(t, "2001:db8::1/64")
	if !v6.PassedDAD() || v6.Dynamic() || v6.UsableFlags() != unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE ||
		v6.SettableFlags() != unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_MANAGETEMPADDR {
		t.Errorf("%s: usable %x, settable %x", v6.Prefix(), v6.UsableFlags(), v6.SettableFlags())
	}
	if l := c.address(t, "2001:db8::2/64").Lifetimes(); l.Preferred != 0 {
		t.Errorf("a deprecated address is preferred for %d s", l.Preferred)
	}
}

func TestLabelOn(t *testing.T) {
	long := func(Address) string { return "d0:long" }
	labelled := func(label string) Address {
		return Address{Append(Message{unix.AF_INET, 24, 0, 0, 2, 0, 0, 0}, String(unix.IFA_LABEL, label))}
	}
	for _, c := range []struct {
		name, label, from, to string
		original              func(Address) string
		want                  string
	}{
		{"the link's name", "d0", "d0", "qn-lan", nil, "qn-lan"},
		{"a name behind it", "d0:x", "d0", "qn-lan", nil, "qn-lan:x"},
		{"an administrator's own", "office", "d0", "qn-lan", nil, "office"},
		{"another link's name", "d00", "d0", "qn-lan", nil, "d00"},
		{"too long", "d0:12345678", "d0", "qn-wide-lan", nil, "qn-wide-lan"},
		{"back from too long", "qn-wide-lan", "qn-wide-lan", "d0", long, "d0:long"},
		{"back, none known", "qn-lan", "qn-lan", "d0", func(Address) string { return "" }, "d0"},
		{"none", "", "d0", "qn-lan", long, ""},
	} {
		if got := labelled(c.label).LabelOn(c.from, c.to, c.original); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// An address on another link differs in the link, the label and the flags alone.
func TestAddressOn(t *testing.T) {
	for _, a := range load(t).Addresses {
		moved := a.On(77, a.LabelOn("d0", "qn-lan", nil), a.SettableFlags())
		if moved.link() != 77 || moved.Prefix() != a.Prefix() || moved.Lifetimes() != a.Lifetimes() || moved.SettableFlags() != a.SettableFlags() {
			t.Errorf("%s: got %s on %d, %+v, flags %x", a.Prefix(), moved.Prefix(), moved.link(), moved.Lifetimes(), moved.Flags())
		}
		if a.Same(moved) || !a.Same(a.WithLifetimes(Lifetimes{1, 2})) {
			t.Errorf("%s: Same does not see the link, or sees lifetimes", a.Prefix())
		}
		back := moved.On(a.link(), moved.LabelOn("qn-lan", "d0", nil), a.SettableFlags())
		if back.Label() != a.Label() {
			t.Errorf("%s: label %q after the way back, want %q", a.Prefix(), back.Label(), a.Label())
		}
	}
}

func TestRouteFields(t *testing.T) {
	c := load(t)
	for _, w := range []struct {
		dst      string
		metric   uint32
		gateway  string
		table    int
		replaces bool
	}{
		{"0.0.0.0/0", 7, "192.0.2.1", unix.RT_TABLE_MAIN, false},
		{"203.0.113.0/24", 0, "fe80::9", 77, false},
		{"2001:db8:1::/48", 1024, "fe80::9", unix.RT_TABLE_MAIN, true},
		{"2001:db8:2::/48", 9, "fe80::9", 1000, true},
		{"::/0", 1024, "fe80::9", unix.RT_TABLE_MAIN, true},
	} {
		r := c.route(t, w.dst, w.metric)
		if r.Gateway() != netip.MustParseAddr(w.gateway) || r.Table() != w.table || r.NeedsReplace() != w.replaces || !r.Uses(c.Link) || r.Unmovable() {
			t.Errorf("%s: via %s, table %d, replaces %t, uses %t", w.dst, r.Gateway(), r.Table(), r.NeedsReplace(), r.Uses(c.Link))
		}
	}
	if s := c.route(t, "2001:db8:1::/48", 1024); s.Expires() > 500000 || s.Expires() < 499000 || s.PreferenceFlag() != 1<<27 {
		t.Errorf("expires in %d s, preference %x", s.Expires(), s.PreferenceFlag())
	}
	if r := c.route(t, "203.0.114.0/24", 0); r.Type() != unix.RTN_BLACKHOLE || r.Gateway().IsValid() || r.PreferenceFlag() != 0 || r.Expires() != 0 {
		t.Errorf("the blackhole route: type %d, via %s", r.Type(), r.Gateway())
	}
	hops := c.route(t, "198.51.100.0/24", 0).Hops()
	if len(hops) != 2 || hops[0].Link != c.Link || hops[0].Gateway != netip.MustParseAddr("192.0.2.2") || hops[1].Link == c.Link {
		t.Errorf("hops %+v", hops)
	}
	var tied int
	for _, r := range c.Routes {
		if r.Tie() == c.route(t, "0.0.0.0/0", 8).Tie() {
			tied++
		}
	}
	if tied != 2 {
		t.Errorf("%d routes tie for the default route of metric 8, want 2", tied)
	}
}

// A route that went to another link and came back is the same, and is another one meanwhile.
func TestRouteOver(t *testing.T) {
	c := load(t)
	for _, r := range c.Routes {
		if !r.Uses(c.Link) {
			continue
		}
		moved := r.Over(c.Link, 77)
		if moved.Uses(c.Link) || !moved.Uses(77) || moved.Same(r) {
			t.Errorf("%s is not on the other link", r.Command("append", c.name))
		}
		if back := moved.Over(77, c.Link); !back.Same(r) {
			t.Errorf("%s is another route after the way back", r.Command("append", c.name))
		}
		if raised := r.WithMetric(r.Metric() + 5); raised.Metric() != r.Metric()+5 || !raised.WithMetric(r.Metric()).Same(r) && r.Metric() != 0 {
			t.Errorf("%s: metric %d", r.Command("append", c.name), raised.Metric())
		}
	}
}

func TestUnmovable(t *testing.T) {
	r := load(t).route(t, "0.0.0.0/0", 7)
	if !(Route{Append(slices.Clone(r.Message), Uint32(nexthopID, 7))}).Unmovable() {
		t.Error("a route with a nexthop object counts as movable")
	}
	if !(Route{Append(slices.Clone(r.Message), Attr{unix.RTA_ENCAP, []byte{1}})}).Unmovable() {
		t.Error("a route with an encapsulation counts as movable")
	}
	hops := []Hop{{Link: 2, attrs: Append([]byte(nil), Attr{unix.RTA_ENCAP, []byte{1}})}}
	if !(Route{Append(slices.Clone(r.Message[:routeHeader]), multipath(hops))}).Unmovable() {
		t.Error("a multipath route with an encapsulation counts as movable")
	}
}

func TestNeighbors(t *testing.T) {
	c := load(t)
	found := map[string]string{}
	for _, n := range c.Neighbors {
		if n.Link() != c.Link || n.Dst().IsMulticast() {
			continue
		}
		kind := map[bool]string{true: "static", false: "learned"}[n.Static()]
		if n.Proxy() {
			kind = "proxy"
		}
		found[n.Dst().String()] = kind + " " + n.HardwareAddr().String()
		moved := n.On(77)
		if !n.Known() || moved.Link() != 77 || moved.Dst() != n.Dst() || moved.Static() != n.Static() || !moved.Known() {
			t.Errorf("%s: known %t, on the other link %t", n.Dst(), n.Known(), moved.Known())
		}
	}
	want := map[string]string{
		"192.0.2.1": "static 02:00:00:00:00:09", "192.0.2.2": "learned 02:00:00:00:00:0a",
		"192.0.2.99": "proxy ", "fe80::9": "learned 02:00:00:00:00:0b",
	}
	for addr, w := range want {
		if found[addr] != w {
			t.Errorf("%s: got %q, want %q", addr, found[addr], w)
		}
	}
}

func TestRules(t *testing.T) {
	var named int
	for _, r := range load(t).Rules {
		if !r.Names("d0") {
			continue
		}
		named++
		other := r.Renamed("d0", "qn-lan")
		if other.Names("d0") || !other.Names("qn-lan") || !slices.Equal(other.Renamed("qn-lan", "d0").Message, r.Renamed("d0", "d0").Message) {
			t.Errorf("renamed: %s", other.Command("add"))
		}
	}
	if named != 3 {
		t.Errorf("%d rules name d0, want 3", named)
	}
}

// Journals hold the messages as encoding/json encodes []byte.
func TestJSONIsBase64(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "message")
		want, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(Route{m})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
		var back Route
		if err := json.Unmarshal(got, &back); err != nil || !bytes.Equal(back.Message, m) {
			t.Fatalf("got back %x, %v, want %x", back.Message, err, m)
		}
	})
	var m Message
	if err := json.Unmarshal([]byte(`"no base64!"`), &m); err == nil {
		t.Error("what is no base64 was decoded")
	}
}

var anAttr = rapid.Custom(func(t *rapid.T) Attr {
	return Attr{rapid.Uint16Range(0, 0x3fff).Draw(t, "type"), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value")}
})

// shortAttr has a type that is known, and often too short a value.
var shortAttr = rapid.Custom(func(t *rapid.T) Attr {
	return Attr{rapid.Uint16Range(0, 32).Draw(t, "type"), rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")}
})

func TestAttrsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(anAttr).Draw(t, "attributes")
		got := Attrs(Append([]byte(nil), list...))
		same := slices.EqualFunc(got, list, func(a, b Attr) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) })
		if !same {
			t.Fatalf("got %v, want %v", got, list)
		}
		if nested := Attrs(Nest(7, list...).Value); len(nested) != len(list) {
			t.Fatalf("nested: got %d, want %d", len(nested), len(list))
		}
	})
}

// No bytes behind a whole header make a method panic: what is cut off counts as missing.
func TestAnyBytesCanBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Message(rapid.SliceOfN(rapid.Byte(), routeHeader, routeHeader).Draw(t, "header"))
		m = Append(m, rapid.SliceOfN(shortAttr, 0, 8).Draw(t, "attributes")...)
		m = append(m, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "rest")...)
		a, r, n, rule := Address{m}, Route{m}, Neighbor{m}, Rule{m}
		name := func(int) string { return "d0" }
		_, _ = a.AddCommand("d0", "d1"), a.DelCommand("d0")
		_, _, _ = r.Command("add", name), r.Fresh(), r.Unmovable()
		_, _, _ = r.WithMetric(1), r.Same(r), r.PreferenceFlag()
		_, _, _ = n.On(3), n.HardwareAddr(), n.Known()
		_, _, _ = rule.Command("add"), rule.Names("d0"), rule.Renamed("d0", "d1")
		_ = a.On(3, "d0", 0)
	})
}

func TestGenModeWord(t *testing.T) {
	for value, want := range map[string]string{"0": "eui64", "1": "none", "2": "stable_secret", "3": "random", "9": ""} {
		if got := GenModeWord(value); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}
