package kernel

import (
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// volatileTimes are lifetimes, which pass.
var volatileTimes = regexp.MustCompile(`valid_lft \S+ preferred_lft \S+|expires \S+`)

// lanPlan is the plan of a network that takes eth0, as a keeper makes it.
func lanPlan(t testing.TB) plan.Plan {
	t.Helper()
	n := plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}
	q := n.Query()
	q.Ask = q.LAN
	facts, err := host.Observe(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(n, facts, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newHost(t testing.TB) *Host {
	t.Helper()
	host, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	return host
}

// onLink returns what the kernel lists of the host's network, without the name of the link
// and without what says only that the link is a bridge or a port.
func onLink(t testing.TB, link string) []string {
	t.Helper()
	var lines []string
	for _, line := range lab.Snapshot(t).Lines() {
		if kind, _, _ := strings.Cut(line, ":"); kind != "addr" && kind != "route" && kind != "neigh" && kind != "rule" {
			continue
		}
		line = strings.ReplaceAll(noisy.ReplaceAllString(line, "$1"), link, "LINK")
		if !strings.Contains(line, "eth0") || link == "eth0" {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines
}

// same waits until two lists differ in nothing but their order. A router advertises itself
// every 3 to 4 s here, and only then the kernel has its own route by that router.
func same(t testing.TB, words string, want []string, now func() []string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if diff = difference(want, now()); diff == "" {
			return
		}
	}
	t.Errorf("%s\n%s", words, diff)
}

// The host moves to the bridge and back with all it has, IPv4 and IPv6, static and
// by router advertisement, and neither pings nor a TCP connection notice.
func TestMoveAndBack(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Require(t, lab.Program("radvd"))
		lan := lab.NewLAN(t, lab.LANOptions{Static: true, RA: true})
		address6 := lan.AwaitSLAAC("eth0")
		lab.Sh(t, "ip addr add 192.0.2.11/24 dev eth0 label eth0:1; ip route add 198.51.100.0/24 via 192.0.2.1 table 7 metric 5 mtu 1400 src 192.0.2.11")
		host := newHost(t)
		pings, talk := lab.PingFrom(t, "outside", lab.LANHost), lab.Talk(t, "outside", lab.LANHost)
		pings6 := lab.PingFrom(t, "outside", address6)
		before, lines := lab.Snapshot(t), onLink(t, "eth0")
		p := lanPlan(t)
		if err := apply.Do(t.Context(), host.Kernel(), p.Steps, nil); err != nil {
			t.Fatal(err)
		}
		same(t, "-: by the NIC, +: by the bridge", lines, func() []string { return onLink(t, p.Bridge) })
		if !lab.Pings("", lab.LANInternet) || !lab.Pings("", lab.LANInternet6) {
			t.Error("the host does not reach the Internet")
		}
		if err := apply.Undo(t.Context(), host.Kernel(), p.Steps); err != nil {
			t.Fatal(err)
		}
		same(t, "-: before, +: after", lines, func() []string { return onLink(t, "eth0") })
		before.Check(t)
		const gap, retransmission = 200 * time.Millisecond, 400 * time.Millisecond // of a segment lost, which TCP sends again after 200 ms
		for _, c := range []struct {
			name string
			lab.Continuity
			most time.Duration
		}{{"ping", pings(), gap}, {"ping -6", pings6(), gap}, {"TCP", talk(), retransmission}} {
			if t.Logf("%s: %s", c.name, c.Continuity); c.Lost > lab.MoveLoss || c.Gap > c.most {
				t.Errorf("%s: %s", c.name, c.Continuity)
			}
		}
	})
}

// The temporary address in use moves along. The kernel makes the others anew, and no
// temporary address is left over.
func TestMoveOfTemporaryAddresses(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Require(t, lab.Program("radvd"))
		lab.Sh(t, "sysctl -qw net/ipv6/conf/default/use_tempaddr=2")
		lab.NewLAN(t, lab.LANOptions{Static: true, RA: true})
		t.Cleanup(func() {
			if t.Failed() {
				out, _ := lab.Try("ip -6 -o addr; sysctl net.ipv6.conf.qn-lan.use_tempaddr net.ipv6.conf.eth0.use_tempaddr; dmesg | tail -5")
				t.Log(out)
			}
		})
		temporary := func(link, not string) (address string) {
			t.Helper()
			lab.Eventually(t, 15*time.Second, "a temporary address of "+link, func() bool {
				out := lab.Sh(t, "ip -6 -o addr show dev "+link+" temporary -tentative scope global | sed -n 's/.*inet6 \\([^/]*\\).*/\\1/p'")
				address, _, _ = strings.Cut(strings.TrimSpace(out), "\n")
				return address != "" && address != not
			})
			return address
		}
		used := temporary("eth0", "")
		lab.InNamespace(t, "gateway", func() error {
			l, err := net.Listen("tcp", "["+lab.LANInternet6+"]:7")
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
		c, err := net.Dial("tcp", "["+lab.LANInternet6+"]:7")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if local := c.LocalAddr().(*net.TCPAddr).IP.String(); local != used {
			t.Fatalf("connected from %s, not from the temporary %s", local, used)
		}
		host, p := newHost(t), lanPlan(t)
		if err := apply.Do(t.Context(), host.Kernel(), p.Steps, nil); err != nil {
			t.Fatal(err)
		}
		if out := lab.Sh(t, "ip -6 -o addr show dev "+p.Bridge+" deprecated"); !strings.Contains(out, used) {
			t.Errorf("the address in use is not on the bridge:\n%s", lab.Sh(t, "ip -6 addr"))
		}
		temporary(p.Bridge, used)
		if err := apply.Undo(t.Context(), host.Kernel(), p.Steps); err != nil {
			t.Fatal(err)
		}
		temporary("eth0", used)
		if out := lab.Sh(t, "ip -6 -o addr show dev eth0 scope global"); strings.Count(out, "\n") != 3 || !strings.Contains(out, used) {
			t.Errorf("want the kernel's two addresses and the one in use:\n%s", out)
		}
	})
}
