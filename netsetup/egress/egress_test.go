package egress_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles/reach"
)

var (
	mac    = net.HardwareAddr{0x52, 0x54, 0, 0x21, 0x34, 0x56}
	bridge = step.List{
		step.AddBridge{Name: "qn-dev", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}},
		step.AddAddr{Link: "qn-dev", Prefix: netip.MustParsePrefix("10.77.0.1/24")},
		step.AddAddr{Link: "qn-dev", Prefix: netip.MustParsePrefix("fd00::1/64")},
	}
)

// A guest that reaches its own network's services alone.
func ExamplePort_TableSteps() {
	p := egress.Port{Link: "qnweb0", Mark: "qnet:dev/web/0", MAC: mac, Bridge: "qn-dev", Policy: reach.Policy{NoHost: true}}.On(bridge)
	fmt.Println(p.TableSteps()[0])
	// Output:
	// nft -f - <<'EOF'
	// table inet qnet_reach_qnweb0 {
	// 	comment "qnet:dev/web/0"
	// 	chain from_guest_to_host {
	// 		type filter hook input priority 0; policy accept;
	// 		iifname != "qn-dev" accept
	// 		@ll,48,48 != 0x525400213456 accept
	// 		ct state established,related accept
	// 		meta l4proto udp th dport { 67, 547 } drop
	// 		meta nfproto ipv4 ip daddr 10.77.0.1 meta l4proto { tcp, udp } th dport 53 accept
	// 		meta nfproto ipv4 ip daddr 10.77.0.1 meta l4proto icmp icmp type 8 accept
	// 		meta nfproto ipv6 ip6 daddr fd00::1 meta l4proto { tcp, udp } th dport 53 accept
	// 		meta nfproto ipv6 ip6 daddr fd00::1 meta l4proto ipv6-icmp icmpv6 type 128 accept
	// 		meta l4proto ipv6-icmp icmpv6 type { 131, 132, 133, 135, 136, 143 } accept
	// 		meta l4proto tcp counter reject with tcp reset comment "to the host"
	// 		counter reject with icmpx type admin-prohibited comment "to the host"
	// 	}
	// }
	// EOF
}

// A guest without a policy costs no step.
func TestNoPolicyNoStep(t *testing.T) {
	p := egress.Port{Link: "qnweb0", MAC: mac, Bridge: "qn-dev"}.On(bridge)
	if steps := slices.Concat(p.TableSteps(), p.LinkSteps()); len(steps) != 0 {
		t.Errorf("got %s", steptest.Script(steps))
	}
}

// What refuses ends the chain: nothing passes because a rule before it is missing.
func TestRefusalsEndTheChains(t *testing.T) {
	for _, policy := range []reach.Policy{{NoLAN: true}, {NoHost: true}, {Isolated: true, NoHost: true, NoLAN: true}} {
		p := egress.Port{Link: "qnweb0", MAC: mac, Bridge: "qn-dev", Policy: policy}.On(bridge)
		for _, add := range step.All[step.AddTable](p.TableSteps()) {
			for _, c := range add.Table.Chains {
				if last := c.Rules[len(c.Rules)-1].Do; add.Table.Family == nft.INet && last != nft.Reject || add.Table.Family == nft.Bridge && last != nft.Drop {
					t.Errorf("%+v: chain %s ends with %s", policy, c.Name, last)
				}
			}
		}
	}
}

// The kernel's ranges may not overlap, and hold what the host reaches without a gateway.
func TestLANSets(t *testing.T) {
	onLink := []netip.Prefix{
		netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.100.128/25"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::5/64"), netip.MustParsePrefix("fe80::1/64"),
	}
	sets := egress.LANSets(onLink)
	for i, want := range [][]string{{"198.51.100.0/24"}, {"2001:db8::/64"}} {
		for _, p := range want {
			if !slices.Contains(sets[i].Prefixes, netip.MustParsePrefix(p)) {
				t.Errorf("%s lacks %s: %v", sets[i].Name, p, sets[i].Prefixes)
			}
		}
		for j, p := range sets[i].Prefixes {
			if slices.ContainsFunc(sets[i].Prefixes[:j], p.Overlaps) {
				t.Errorf("%s: %s overlaps another", sets[i].Name, p)
			}
		}
	}
}

func TestGlobal(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "203.0.113.1": true, "2606:4700::1": true, "64:ff9b::101:101": true,
		"10.0.0.1": false, "100.64.0.1": false, "127.0.0.1": false, "169.254.169.254": false, "172.31.0.1": false, "192.168.1.1": false, "0.0.0.0": false,
		"224.0.0.1": false, "255.255.255.255": false, "::": false, "::1": false, "fd00::1": false, "fe80::1": false, "ff02::1": false, "::ffff:10.0.0.1": false,
		"::ffff:1.1.1.1": true, "64:ff9b::a9fe:a9fe": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001:0:1::": false,
	} {
		if got := egress.Global(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
	if egress.Global(netip.Addr{}) {
		t.Error("no address is global")
	}
}

func TestIsolate(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"link qnweb0": "qnet:dev/web/0"}}
	k, s := m.Kernel(), egress.Isolate{Link: "qnweb0"}
	if holds, err := s.Holds(t.Context(), k); err != nil || holds {
		t.Errorf("holds %t, %v", holds, err)
	}
	if err := s.Do(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if holds, err := s.Holds(t.Context(), k); err != nil || !holds || s.Undo(t.Context(), k) != nil || s.UndoString() != "" {
		t.Errorf("holds %t, %v", holds, err)
	}
}

func listOf(t testing.TB, texts ...string) reach.Policy {
	t.Helper()
	p := reach.Policy{Listed: true}
	for _, text := range texts {
		e, err := reach.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Entries = append(p.Entries, e)
	}
	return p
}

// An address passes by the set of each entry that allows its name, for the TTL and a time besides.
func TestFed(t *testing.T) {
	p := listOf(t, "deb.example", "*.example:443", "deb.example:80/tcp", "other.example")
	addresses := []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("203.0.113.1")}
	var got []string
	for _, e := range egress.Fed(p.Find("deb.example"), addresses, time.Second) {
		got = append(got, fmt.Sprintf("%s %s %s", e.Set, e.Address, e.For))
	}
	want := []string{
		"names4 203.0.113.1 6m0s", "names4_443 203.0.113.1 6m0s", "names4_80_tcp 203.0.113.1 6m0s",
		"names6 2001:db8::1 6m0s", "names6_443 2001:db8::1 6m0s", "names6_80_tcp 2001:db8::1 6m0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for ttl, want := range map[time.Duration]time.Duration{0: 6 * time.Minute, time.Hour: 65 * time.Minute, 1000 * time.Hour: 24*time.Hour + 5*time.Minute} {
		if got := egress.Fed(p.Find("other.example"), addresses[:1], ttl); got[0].For != want {
			t.Errorf("TTL %s: %s", ttl, got[0].For)
		}
	}
}

// A list denies before it allows, and refuses what it does not name; an empty one allows nothing.
func TestListRules(t *testing.T) {
	for _, p := range []reach.Policy{listOf(t), listOf(t, "deb.example", "*.github.com:443", "192.0.2.0/24:22", "[2001:db8::/32]:53/udp", "198.51.100.0/24", "!10.0.0.0/8")} {
		port := egress.Port{Link: "qnweb0", MAC: mac, Bridge: "qn-dev", Policy: p}.On(bridge)
		add, _ := step.Find[step.AddTable](port.TableSteps())
		if !egress.HasList(add.Table) || egress.HasLANSets(add.Table) {
			t.Errorf("sets %v", add.Table.Sets)
		}
		for _, c := range add.Table.Chains {
			if c.Name != egress.ForwardChain {
				continue
			}
			if last := c.Rules[len(c.Rules)-1]; last.Do != nft.Reject || last.Counts != egress.ToOthers || len(last.Frame) != 0 {
				t.Errorf("it ends with %s", last)
			}
			denies := slices.IndexFunc(c.Rules, func(r nft.Rule) bool { return r.Counts == egress.ToDenied })
			allows := slices.IndexFunc(c.Rules, func(r nft.Rule) bool { return len(r.Frame) > 1 && strings.Contains(r.String(), "@allowed4") })
			if denies < 0 || allows < denies {
				t.Errorf("denies at %d, allows at %d", denies, allows)
			}
		}
	}
}

// Ten thousand names cost little, and there are bounds.
func TestKnown(t *testing.T) {
	var k egress.Known
	now := time.Now()
	a := netip.MustParseAddr("203.0.113.1")
	before := heap()
	for i := range 10000 {
		if !k.Admit(fmt.Sprintf("n%d.example", i), []netip.Addr{a}, now, time.Second) {
			t.Fatalf("name %d", i)
		}
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("10,000 names take %d bytes", grown)
	}
	var many []netip.Addr
	for range egress.MostOfName + 1 {
		a = a.Next()
		many = append(many, a)
	}
	if k.Admit("big.example", many, now, time.Second) || !k.Admit("big.example", many[1:], now, time.Second) || k.Admit("big.example", many[:1], now, time.Second) {
		t.Error("the bound of a name")
	}
	if !k.Admit("big.example", many[1:], now, time.Second) {
		t.Error("what is there counts once")
	}
	for i := 0; k.Admit(fmt.Sprintf("m%d.example", i), many[1:], now, time.Second); i++ {
		if i > 100 {
			t.Fatal("there is no bound")
		}
	}
	if !k.Admit("late.example", many[1:], now.Add(time.Hour), time.Second) {
		t.Error("what has expired counts")
	}
	for i := range 1000 {
		k.Refuse(fmt.Sprintf("evil%d.example", i))
	}
	if n := k.Refused(); len(n) > 65 || n["other names"] != 1000-64 {
		t.Errorf("%d names are kept", len(n))
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
