package host

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// twoUplinks gives the host up0 and up1, each with an address and a gateway behind it, of
// which up0 has the default route; en2 without an address; and tun0, an open tun link.
const twoUplinks = `
ip link set lo up
for i in 0 1 2; do ip netns add isp$i; done
ip link add up0 type veth peer name peer netns isp0
ip link add up1 type veth peer name peer netns isp1
ip link add en2 type veth peer name peer netns isp2
for i in 0 1 2; do ip -n isp$i link set peer up; done
for l in up0 up1 en2; do ip link set $l up; done
ip addr add 203.0.113.2/24 dev up0
ip addr add 192.0.2.2/24 dev up1
ip route add default via 203.0.113.1
ip tuntap add tun0 mode tun
ip link set tun0 up
ip addr add 10.200.0.2/24 dev tun0
`

// The ways out of many hosts, as the kernel itself has them.
func TestWays(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	for _, c := range []struct {
		name, setup             string
		own, lan, guest, uplink string // "" for none; uplink: one more link that guests may leave by
	}{
		{"one default route", "", "up0", "up0", "up0", ""},
		{"source-based routing", "ip route add default via 192.0.2.1 dev up1 table 100; ip rule add from 192.0.2.2 lookup 100", "up0", "up0", "up0", "up1"},
		{"two metrics", "ip route replace default via 203.0.113.1 metric 600; ip route del default metric 0; ip route add default via 192.0.2.1 metric 100", "up1", "up1", "up1", ""},
		{"blackhole behind", "ip route add blackhole default metric 999", "up0", "up0", "up0", ""},
		{"blackhole alone", "ip route del default; ip route add blackhole default metric 999", "", "", "", "up0"},
		{"no default route", "ip route del default", "", "", "", "up0"},
		{"two halves by a VPN", "ip route add 0.0.0.0/1 dev tun0; ip route add 128.0.0.0/1 dev tun0", "tun0", "up0", "tun0", "up0"},
		{"many parts by a VPN", "for p in 0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/3; do ip route add $p dev tun0; done", "tun0", "up0", "tun0", ""},
		{"a VPN by mark", "ip route add default dev tun0 table 51820; ip rule add not fwmark 51820 table 51820; ip rule add table main suppress_prefixlength 0", "tun0", "up0", "tun0", ""},
		{"a VPN by mark over another table", "ip route del default; ip route add default via 203.0.113.1 table 7; ip rule add priority 5210 fwmark 0x80000/0xff0000 lookup 7; ip route add default dev tun0 table 52; ip rule add priority 5270 lookup 52", "tun0", "up0", "tun0", ""},
		{"a VPN that only the host uses", "ip route add default dev tun0 table 52; ip rule add iif lo lookup 52", "tun0", "up0", "up0", ""},
		{"a VPN that only guests use", "ip route add default dev tun0 table 52; ip rule add iif qn-dev lookup 52", "up0", "up0", "tun0", ""},
		{"a user's VPN", "ip route add default dev tun0 table 52; ip rule add uidrange 1000-2000 lookup 52", "up0", "up0", "up0", "tun0"},
		{"a rule for one protocol", "ip route add default dev tun0 table 52; ip rule add ipproto udp lookup 52", "up0", "up0", "up0", ""},
		{"a rule that prohibits guests", "ip rule add from 10.9.0.0/24 prohibit", "up0", "up0", "", ""},
		{"on a link without an address", "ip route del default; ip route add default dev en2", "en2", "en2", "en2", ""},
		{"onlink", "ip route del default; ip route add default via 198.51.100.7 dev en2 onlink", "en2", "en2", "en2", ""},
		{"a nexthop object", "ip route del default; ip nexthop add id 1 via 192.0.2.1 dev up1; ip route add default nhid 1", "up1", "up1", "up1", ""},
		{"a nexthop group", "ip route del default; ip nexthop add id 1 via 192.0.2.1 dev up1; ip nexthop add id 2 via 203.0.113.1 dev up0; ip nexthop add id 3 group 1/2; ip route add default nhid 3", "up1", "up1", "up1", "up0"},
		{"a nexthop object that routes do not show", "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip route del default; ip nexthop add id 1 via 192.0.2.1 dev up1; ip route add default nhid 1", "up1", "up1", "up1", ""},
		{"several ways at once", "ip route del default; ip route add default nexthop via 192.0.2.1 nexthop via 203.0.113.1", "up1", "up1", "up1", "up0"},
		{"an IPv6 gateway", "ip route del default; ip -4 route add default via inet6 fe80::1 dev up1", "up1", "up1", "up1", ""},
		{"IPv6 alone", "ip addr flush dev up0; ip addr flush dev up1; ip -6 addr add 2001:db8::2/64 dev up1 nodad; ip -6 route add default via 2001:db8::1", "", "up1", "", ""},
		{"IPv6 by another link", "ip -6 addr add 2001:db8::2/64 dev up1 nodad; ip -6 route add default via 2001:db8::1", "up0", "up0", "up0", ""},
		{"a bridge of an administrator", "ip link add br0 type bridge; ip addr flush dev up0; ip link set up0 master br0; ip link set br0 up; ip addr add 203.0.113.2/24 dev br0; ip route add default via 203.0.113.1", "br0", "br0", "br0", ""},
		{"a macvlan", "ip link add link en2 name mv0 type macvlan; ip link set mv0 up; ip route del default; ip route add default dev mv0", "mv0", "mv0", "mv0", ""},
		{"a route to one sample alone", "ip route add 23.0.0.0/8 via 192.0.2.1", "up0", "up0", "up0", "up1"},
		{"all of the Internet without a default route", "ip route del default; for n in $(seq 1 223); do echo route add $n.0.0.0/8 via 192.0.2.1; done | ip -batch -", "up1", "up1", "up1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab.Run(t, func(t *testing.T) {
				lab.Sh(t, twoUplinks+c.setup)
				f, err := ObserveNetwork()
				if err != nil {
					t.Fatal(err)
				}
				own, _ := f.DefaultLink()
				lan, _ := f.LANLink("")
				guest, _ := f.GuestLink("qn-dev", addr("10.9.0.7"))
				if got, want := [3]string{own.Name, lan.Name, guest.Name}, [3]string{c.own, c.lan, c.guest}; got != want {
					out, _ := lab.Try("ip rule; ip route show table all")
					t.Errorf("the host leaves by %q, the LAN is at %q, guests leave by %q; want %q\n%s", got[0], got[1], got[2], want, out)
				}
				all := append(f.Uplinks(), f.Beside()...)
				if c.own != "" && all[0] != c.own || c.uplink != "" && !slices.Contains(all, c.uplink) || c.guest != "" && !slices.Contains(all, c.guest) {
					t.Errorf("uplinks %v", all)
				}
			})
		})
	}
}

// random makes rules and routes of random kinds. Commands that make no sense fail.
type random struct {
	*rand.Rand
	commands []string
}

func (r *random) one(list ...string) string { return list[r.IntN(len(list))] }

func (r *random) route() string {
	words := "route add " + r.one("", "", "", "blackhole ", "unreachable ", "prohibit ", "throw ") +
		r.one("default", "default", "0.0.0.0/1", "128.0.0.0/1", "45.0.0.0/8", "45.0.0.0/24", "185.0.0.1/32", "64.0.0.0/2")
	if !strings.Contains(words, "able") && !strings.Contains(words, "hole") && !strings.Contains(words, "prohibit") && !strings.Contains(words, "throw") {
		words += r.one(" dev up0", " via 203.0.113.1", " dev up1", " via 192.0.2.1 dev up1", " dev en2", " dev tun0", " via inet6 fe80::1 dev up1", " nhid 1", " nhid 3",
			" nexthop via 192.0.2.1 nexthop via 203.0.113.1 weight 2", " via 198.51.100.7 dev en2 onlink")
	}
	return words + " table " + r.one("254", "254", "52", "100", "51820") + " metric " + r.one("0", "5", "100")
}

func (r *random) rule() string {
	words := "rule add priority " + strconv.Itoa(1+r.IntN(40)*1000) + r.one("", "", " not")
	for range r.IntN(3) {
		words += r.one(" from 10.9.0.0/24", " from 203.0.113.2", " from 10.0.0.0/8", " to 45.0.0.0/8", " to 0.0.0.0/1", " iif qn-dev", " iif lo", " iif up0", " oif up1",
			" fwmark 51820", " fwmark 0/0xff", " fwmark 0x80000/0xff0000", " uidrange 0-0", " uidrange 1000-2000", " ipproto udp", " ipproto tcp", " ipproto tcp dport 443",
			" dport 53", " tos 0x10")
	}
	return words + r.one(" lookup 254", " lookup 52", " lookup 100", " lookup 51820", " lookup main suppress_prefixlength 0", " lookup 52 suppress_prefixlength 1",
		" lookup 77", " blackhole", " prohibit", " goto 32766", " goto "+strconv.Itoa(1+r.IntN(40)*1000), " nop")
}

// For random rules and routes of several tables, a lookup finds what the kernel does, for the
// host's packets and for guests'.
func TestLookupEqualsTheKernels(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		if s := os.Getenv("QNET_SEED"); s != "" {
			seed, _ = strconv.ParseUint(s, 10, 64)
		}
		t.Logf("QNET_SEED=%d", seed)
		lab.Sh(t, twoUplinks+`
ip link add qn-dev type bridge
ip link set qn-dev up
ip addr add 10.9.0.1/24 dev qn-dev
sysctl -qw net.ipv4.conf.qn-dev.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.qn-dev.rp_filter=0
sysctl -qw net.ipv4.conf.qn-dev.send_redirects=0`)
		r := &random{Rand: rand.New(rand.NewPCG(seed, 0))}
		c, err := rtnl.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		routed := 0
		for range 150 {
			routed += r.compare(t, c)
		}
		t.Logf("%d of %d packets have a route", routed, 150*2*len(ways.Samples4))
		if routed < 150 {
			t.Errorf("%d packets have a route: the rules and routes are not made", routed)
		}
	})
}

// compare makes new rules and routes, and looks up the samples. It returns how many have a
// route.
func (r *random) compare(t *testing.T, c *rtnl.Conn) (routed int) {
	t.Helper()
	// The routes of a nexthop object go with it, and not by a flush.
	r.commands = []string{"nexthop flush", "nexthop add id 1 via 192.0.2.1 dev up1", "nexthop add id 2 dev en2", "nexthop add id 3 group 2/1", "rule flush", "rule add priority 32766 lookup main", "rule add priority 32767 lookup default"}
	for _, table := range []string{"52", "100", "51820"} {
		r.commands = append(r.commands, "route flush table "+table)
	}
	r.commands = append(r.commands, "route flush root 0.0.0.0/0 table main", "addr add 203.0.113.2/24 dev up0", "addr add 192.0.2.2/24 dev up1",
		"route add 203.0.113.0/24 dev up0", "route add 192.0.2.0/24 dev up1", "route add 10.9.0.0/24 dev qn-dev")
	for range 1 + r.IntN(8) {
		r.commands = append(r.commands, r.route())
	}
	for range r.IntN(6) {
		r.commands = append(r.commands, r.rule())
	}
	lab.Try("ip -4 -force -batch - <<'END'\n" + strings.Join(r.commands, "\n") + "\nEND")
	all, err := fib.Read(prefix("0.0.0.0/0"))
	if err != nil {
		t.Fatal(err)
	}
	bridge, _, _ := ReadLink("qn-dev")
	for _, to := range ways.Samples4 {
		for _, p := range []struct {
			ours   fib.Packet
			kernel rtnl.Question
		}{
			{fib.Packet{From: netip.IPv4Unspecified(), To: to, In: "lo"}, rtnl.Question{To: to}},
			{fib.Packet{From: addr("10.9.0.7"), To: to, In: "qn-dev"}, rtnl.Question{To: to, From: addr("10.9.0.7"), In: bridge.Index}},
		} {
			want := 0
			got, err := c.RouteOf(p.kernel)
			if err == nil {
				want, _ = got.Out()
				routed++
			}
			_, route, _ := all.RouteOf(p.ours)
			if route.Link != want {
				out, _ := lab.Try("ip rule; ip route show table all")
				t.Fatalf("%+v: link %d, the kernel's is %d (%v)\n%s\n%s", p.ours, route.Link, want, err, fmt.Sprint(strings.Join(r.commands, "\n")), out)
			}
		}
	}
	return routed
}
