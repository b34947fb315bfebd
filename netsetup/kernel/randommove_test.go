package kernel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// A set is what eth0 has, as commands. The kernel may refuse some of them.
type set struct {
	*rand.Rand
	lines []string
	addrs []netip.Prefix // IPv4
}

func (s *set) add(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *set) pick(of ...string) string { return of[s.IntN(len(of))] }

// maybe returns the words in one of n cases.
func (s *set) maybe(n int, format string, args ...any) string {
	if s.IntN(n) != 0 {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (s *set) fill() {
	for i := range 1 + s.IntN(8) {
		s.address(i)
	}
	for range s.IntN(4) {
		s.add("addr add 2001:db8:%x::%x/%s dev eth0%s%s", s.IntN(5)+0x70, s.IntN(9)+1, s.pick("64", "64", "128", "48"),
			s.pick(" nodad", " nodad", ""), s.maybe(4, " noprefixroute"))
	}
	for range s.IntN(11) {
		s.route()
	}
	if s.IntN(3) == 0 {
		s.add("neigh add 10.0.0.%d lladdr 02:00:00:00:01:02 dev eth0 nud permanent", s.IntN(200)+1)
	}
	if s.IntN(3) == 0 {
		s.add("rule add from 10.%d.0.0/16 iif eth0 lookup 7 priority %d", s.IntN(9), 100+s.IntN(9))
	}
}

func (s *set) address(i int) {
	bits := []int{24, 24, 24, 25, 30, 31, 32, 16}[s.IntN(8)]
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(s.IntN(4)), byte(s.IntN(3)), byte(1 + s.IntN(120))}), bits)
	if bits == 24 && s.IntN(3) == 0 { // a host of the LAN
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(30 + s.IntN(60))}), 24)
	}
	words := p.String()
	if bits == 32 && s.IntN(2) == 0 {
		words = fmt.Sprintf("%s peer 10.8.0.%d/%d", p.Addr(), 1+s.IntN(200), 24+s.IntN(9))
	}
	s.addrs = append(s.addrs, p)
	s.add("addr add %s%s%s%s%s%s%s dev eth0", words, s.maybe(3, " broadcast +"), s.maybe(4, " label eth0:%d", i), s.maybe(6, " scope link"),
		s.maybe(5, " metric %d", s.IntN(900)), s.maybe(6, " noprefixroute"), s.maybe(6, " valid_lft 90000 preferred_lft 80000"))
}

func (s *set) route() {
	own := s.addrs[s.IntN(len(s.addrs))]
	table, metric := s.pick("", "", " table 7", " table 1000"), s.maybe(2, " metric %d", s.IntN(500))
	src := s.maybe(3, " src %s", own.Addr())
	tail := table + metric + s.maybe(4, " mtu 1400") + s.maybe(5, " mtu lock 1300 advmss 1200 initcwnd 20") + s.maybe(5, " proto static") + s.maybe(8, " tos 0x10")
	dst := s.pick("default", fmt.Sprintf("172.%d.0.0/16", 16+s.IntN(9)), fmt.Sprintf("198.18.%d.%d/32", s.IntN(9), s.IntN(9)), "198.51.0.0/17")
	via := own.Masked().Addr().Next().String()
	how := s.pick("add", "append", "prepend")
	switch s.IntN(9) {
	case 0:
		s.add("route add %s %s%s%s", s.pick("blackhole", "unreachable", "prohibit", "throw"), dst, table, metric)
	case 1:
		s.add("route %s %s dev eth0%s%s%s", how, dst, src, tail, s.maybe(2, " scope link"))
	case 2:
		s.add("route %s %s via 203.0.113.%d dev eth0 onlink%s%s", how, dst, 1+s.IntN(9), src, tail) // as hosters do with a /32
	case 3:
		s.add("route add %s nexthop via %s dev eth0 weight %d nexthop via 198.51.100.1 dev lan0 weight %d%s%s", dst, via, 1+s.IntN(9), 1+s.IntN(9), table, metric)
	case 4:
		s.add("-6 route add %s via 2001:db8:%x::f dev eth0%s%s", s.pick("default", "2001:db8:100::/48", "2001:db8:101::/48"), s.IntN(5)+0x70, table, metric)
	case 5:
		s.add("-6 route append 2001:db8:102::/48 via 2001:db8:%x::f dev eth0%s", s.IntN(5)+0x70, table)
	case 6:
		s.add("-6 route add 2001:db8:%x::/48 dev %s%s%s%s", 0x103+s.IntN(3), s.pick("eth0", "eth0", "lan0"), table, metric, s.maybe(3, " pref high"))
	case 7: // beside one by another NIC
		s.add("route %s %s dev lan0%s%s", how, dst, table, metric)
		s.add("route %s %s dev eth0%s%s", s.pick("append", "prepend"), dst, table, metric)
	default:
		s.add("route %s %s via %s dev eth0%s%s", how, dst, via, src, tail)
	}
}

// apply makes the set and returns how many addresses and routes the kernel took.
func (s *set) apply(t *testing.T) {
	t.Helper()
	batch := t.TempDir() + "/batch"
	text := "addr flush dev eth0\n" + strings.Join(s.lines, "\n") + "\n"
	if err := os.WriteFile(batch, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, `for r in $(seq 100 109); do while ip rule del priority $r 2>/dev/null; do :; done; done
ip neigh flush nud permanent dev eth0 2>/dev/null || true
for t in main 7 1000; do for f in -4 -6; do ip $f route flush table $t 2>/dev/null || true; done; done
ip addr flush dev lan0; ip addr add 198.51.100.10/24 dev lan0; ip addr add 2001:db8:99::1/64 dev lan0 nodad
ip -force -batch `+batch+` >/dev/null 2>&1 || true`)
	lab.Eventually(t, 5*time.Second, "IPv6 addresses are checked, and have their local routes", func() bool {
		return lab.Sh(t, `ip -6 addr show tentative
for a in $(ip -6 -o addr show | sed 's/.*inet6 \([^/ ]*\).*/\1/'); do
	[ -n "$(ip -6 route show table local type local $a)" ] || echo $a
done`) == ""
	})
}

// inKernelOrder returns what the kernel lists of the link. The order decides which address
// is a primary one and which of like routes counts.
func inKernelOrder(t *testing.T, link string) string {
	t.Helper()
	out := lab.Sh(t, "ip -4 -o addr show dev "+link+" | sed 's/^[0-9]*: //'; ip -4 route show table all type unicast")
	return strings.ReplaceAll(volatileTimes.ReplaceAllString(out, ""), link, "LINK")
}

// The bridge gets everything that the NIC has, and the NIC gets it back, with all that ip(8)
// lists.
func TestMoveOfRandomSets(t *testing.T) {
	n := 6
	if lab.Stress() {
		n = 200
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("QNET_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{})
		lab.Sh(t, `sysctl -qw net/ipv6/conf/eth0/accept_ra=0 net/ipv4/conf/all/promote_secondaries=0
ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up`)
		host := newHost(t)
		addrs, routes := 0, 0
		for i := range n {
			s := &set{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			s.fill()
			s.apply(t)
			a, r := moveSet(t, host)
			addrs, routes = addrs+a, routes+r
			if t.Failed() {
				t.Fatalf("QNET_SEED=%d, set %d:\n%s", seed, i, strings.Join(s.lines, "\n"))
			}
		}
		t.Logf("| random sets | %d sets | %d addresses, %d routes by the NIC | all equal during and after |", n, addrs, routes)
	})
}

func moveSet(t *testing.T, machine *Host) (addrs, routes int) {
	t.Helper()
	network := plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}
	facts, err := host.Observe(t.Context(), network.Query())
	if err == nil {
		facts.NIC.Asked = true               // no machine answers for most
		facts.NIC.Client = managers.Client{} // who gave an address with an end, is not the question here
	}
	p, planErr := plan.New(network, facts, plan.Options{Salt: hosttest.Salt, AssumeYes: true})
	if err != nil || planErr != nil {
		t.Errorf("%v, %v", err, planErr)
		return 0, 0
	}
	before, lines, order := lab.Snapshot(t), onLink(t, "eth0"), inKernelOrder(t, "eth0")
	if err := apply.Do(t.Context(), machine.Kernel(), p.Steps, nil); err != nil {
		t.Errorf("move: %v", err)
		return 0, 0
	}
	same(t, "-: by the NIC, +: by the bridge", lines, func() []string { return onLink(t, p.Bridge) })
	if now := inKernelOrder(t, p.Bridge); now != order {
		t.Errorf("in another order: by the NIC\n%s\nby the bridge\n%s", order, now)
	}
	if err := apply.Undo(t.Context(), machine.Kernel(), p.Steps); err != nil {
		t.Errorf("way back: %v", err)
		return 0, 0
	}
	before.Check(t)
	if now := inKernelOrder(t, "eth0"); now != order {
		t.Errorf("in another order: before\n%s\nafter\n%s", order, now)
	}
	return len(facts.NIC.Held.Addrs), len(facts.NIC.Held.Routes)
}

// Of routes that tie, those by the NIC before one by another link stay before it, in their
// order, whatever their gateways are.
func TestMoveOfTiedRoutes(t *testing.T) {
	const address = "addr add 10.1.0.2/24 dev eth0"
	other, direct, second := "dev lan0", "dev eth0 scope link", "dev eth0 scope link src 10.1.0.2 mtu 1400"
	gateway, far := "via 10.1.0.1 dev eth0", "via 10.1.0.7 dev eth0 proto static"
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{})
		lab.Sh(t, `sysctl -qw net/ipv4/conf/all/promote_secondaries=0
ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up`)
		host := newHost(t)
		for _, routes := range [][]string{
			{gateway, direct, other},
			{direct, gateway, other},
			{gateway, far, other},
			{far, gateway, direct, other},
			{direct, second, other},
			{second, gateway, direct, far, other},
			{direct, far, second, gateway, other},
			{direct, other, gateway},
			{other, gateway, direct},
			{gateway, direct, other, far, second},
			{direct, gateway},
			{gateway, other, direct, far},
		} {
			s := &set{lines: []string{address}}
			for _, r := range routes {
				s.add("route append 198.51.0.0/17 %s", r)
			}
			s.add("addr add 10.4.0.2/24 dev eth0") // whose route the kernel adds itself
			s.add("route append 10.4.0.0/24 dev lan0")
			s.apply(t)
			moveSet(t, host)
			if t.Failed() {
				t.Fatalf("routes %q", routes)
			}
		}
	})
}
