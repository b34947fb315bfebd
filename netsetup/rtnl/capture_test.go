package rtnl

import (
	"encoding/json"
	"flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

var update = flag.Bool("update", false, "capture testdata/capture.json anew, in a network namespace")

// updateEnv tells the process in the namespace of -update: it gets no flags of ours.
const updateEnv = "QNET_RTNL_UPDATE"

const captureFile = "testdata/capture.json"

// capture has what the kernel lists of the host that setUp makes.
type capture struct {
	Link      int
	Links     map[int]string
	Addresses []Address
	Routes    []Route
	Neighbors []Neighbor
	Rules     []Rule
	Commands  []string // of all that
}

// setUp makes a link with all that a NIC may have. Of bridge mode's host, it is the NIC.
const setUp = `
ip link add d0 address 02:00:00:00:00:01 type veth peer name d1 address 02:00:00:00:00:02
ip link set lo up; ip link set d1 up
sysctl -qw net.ipv6.conf.d0.addr_gen_mode=1 net.ipv6.conf.d1.addr_gen_mode=1 net.ipv4.conf.d0.proxy_arp=1
ip link set d0 up
ip addr add 192.0.2.10/24 broadcast + dev d0
ip addr add 192.0.2.11/24 dev d0 label d0:x valid_lft 1000000 preferred_lft 500000
ip addr add 10.0.0.1 peer 10.0.0.2/32 dev d0 scope link metric 5
ip addr add 2001:db8::1/64 dev d0 nodad mngtmpaddr noprefixroute
ip addr add 2001:db8::2/64 dev d0 nodad home valid_lft 1000000 preferred_lft 0
ip addr add fe80::1/64 dev d0 nodad
ip route add default via 192.0.2.1 dev d0 metric 7 mtu lock 1400 advmss 1300 rto_min 20ms
ip route add default via 192.0.2.2 dev d1 metric 8 onlink
ip route append default via 192.0.2.2 dev d0 metric 8
ip route add 198.51.100.0/24 nexthop via 192.0.2.2 dev d0 weight 2 nexthop via 198.18.0.3 dev d1 onlink
ip route add 203.0.113.0/24 via inet6 fe80::9 dev d0 table 77 proto static
ip route add 203.0.115.0/24 dev d0 src 192.0.2.10 tos 4 realms 1/2
ip route add blackhole 203.0.114.0/24
ip -6 route add 2001:db8:1::/48 via fe80::9 dev d0 expires 500000 pref high
ip -6 route add 2001:db8:2::/48 via fe80::9 dev d0 metric 9 table 1000
ip -6 route add default via fe80::9 dev d0
ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:09 dev d0
ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:0a nud reachable dev d0
ip neigh add proxy 192.0.2.99 dev d0
ip neigh add fe80::9 lladdr 02:00:00:00:00:0b nud stale dev d0
ip rule add from 192.0.2.0/24 iif d0 fwmark 1/3 priority 100 lookup 77
ip rule add not to 192.0.2.0/24 oif d0 priority 101 goto 32766
ip rule add priority 102 prohibit from 198.51.100.4
ip -6 rule add iif d0 priority 103 lookup 1000`

func list(t *testing.T) capture {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	got := capture{Links: map[int]string{}}
	for _, l := range links {
		if got.Links[l.Index] = l.Name; l.Name == "d0" {
			got.Link = l.Index
		}
	}
	if got.Addresses, err = c.Addresses(got.Link); err != nil {
		t.Fatal(err)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := WalkRoutes(family, func(r Route) {
			if !r.Automatic() {
				got.Routes = append(got.Routes, r.Clone())
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		neighbors, err := c.Neighbors(family)
		if err != nil {
			t.Fatal(err)
		}
		got.Neighbors = append(got.Neighbors, neighbors...)
		rules, err := c.Rules(family)
		if err != nil {
			t.Fatal(err)
		}
		got.Rules = append(got.Rules, rules...)
	}
	return got
}

func (c capture) name(link int) string { return c.Links[link] }

// commands are what makes each object.
func (c capture) commands() []string {
	var list []string
	for _, a := range c.Addresses {
		list = append(list, a.AddCommand("d0", "d0"), a.ChangeCommand("d0", "qn-lan"), a.DelCommand("d0"))
	}
	for _, r := range c.Routes {
		list = append(list, r.Command("append", c.name))
	}
	for _, r := range c.Rules {
		list = append(list, r.Command("add"))
	}
	return list
}

func load(t *testing.T) capture {
	t.Helper()
	b, err := os.ReadFile(captureFile)
	if err != nil {
		t.Fatal(err)
	}
	var c capture
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The command that shows a route or a rule makes the same one again when ip(8) runs it. With
// -update, what the kernel lists becomes the test data of the other tests.
func TestCommandsMakeTheSame(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	if *update {
		os.Setenv(updateEnv, "1") //nolint:usetesting // labs run in parallel, where T forbids it
	}
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, setUp)
		before := list(t)
		if os.Getenv(updateEnv) != "" {
			before.Commands = before.commands()
			b, err := json.MarshalIndent(before, "", "\t")
			if err == nil {
				err = os.WriteFile(filepath.FromSlash(captureFile), append(b, '\n'), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var script []string
		for _, r := range before.Routes {
			if r.Protocol() != unix.RTPROT_KERNEL {
				script = append(script, r.Command("del", before.name), r.Command("append", before.name))
			}
		}
		for _, r := range before.Rules {
			if p := r.uint32(routeHeader, unix.FRA_PRIORITY); p >= 100 && p <= 103 {
				script = append(script, r.Command("del"), r.Command("add"))
			}
		}
		lab.Sh(t, "set -e\n"+strings.Join(script, "\n"))
		after := list(t)
		for _, r := range before.Routes {
			if !slices.ContainsFunc(after.Routes, r.Same) {
				t.Errorf("another route after: %s", r.Command("append", before.name))
			}
		}
		for _, r := range before.Rules {
			if !slices.ContainsFunc(after.Rules, func(o Rule) bool { return slices.Equal(r.Message, o.Message) }) {
				t.Errorf("another rule after: %s", r.Command("add"))
			}
		}
	})
}

// A request puts back what a command has deleted.
func TestRequestsMakeTheSame(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, setUp)
		before := list(t)
		lab.Sh(t, "ip neigh flush dev d0 nud all; ip neigh del proxy 192.0.2.99 dev d0; ip addr flush dev d0; ip -6 rule del priority 103; for p in 100 101; do ip rule del priority $p; done")
		var batch []Request
		for _, a := range before.Addresses {
			batch = append(batch, AddAddress("d0", a.On(before.Link, a.Label(), a.SettableFlags())))
		}
		for _, n := range before.Neighbors {
			if n.Link() == before.Link && n.Static() {
				batch = append(batch, ReplaceNeighbor("d0", n.On(before.Link)))
			}
		}
		for _, r := range before.Routes {
			switch {
			case !r.Uses(before.Link) || r.Protocol() == unix.RTPROT_KERNEL:
			case r.NeedsReplace():
				batch = append(batch, ReplaceRoute("d0", r.Fresh()))
			default:
				batch = append(batch, AppendRoute("d0", r.Fresh()))
			}
		}
		for _, r := range before.Rules {
			if r.Names("d0") {
				batch = append(batch, AddRule("d0", r.Renamed("d0", "d0")))
			}
		}
		if err := Send(batch...); err != nil {
			t.Fatal(err)
		}
		after := list(t)
		for _, a := range before.Addresses { // the kernel lists the last one of IPv6 first
			if !slices.ContainsFunc(after.Addresses, a.Same) {
				t.Errorf("lacks the address: %s", a.AddCommand("d0", "d0"))
			}
		}
		for _, r := range before.Routes {
			if r.Protocol() != unix.RTPROT_KERNEL && !slices.ContainsFunc(after.Routes, r.Same) {
				t.Errorf("lacks the route: %s", r.Command("append", before.name))
			}
		}
		if len(after.Rules) != len(before.Rules) {
			t.Errorf("%d rules, want %d", len(after.Rules), len(before.Rules))
		}
		lab.Sh(t, "ip neigh show nud permanent dev d0 | grep -q 02:00:00:00:00:09; ip neigh show proxy | grep -q 192.0.2.99")
	})
}
