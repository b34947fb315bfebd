package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A forwarded network: the VM web, whose QEMU runs nothing, and namespaces for its guest, for a
// neighbour's, for a container and for a machine of the LAN.
const (
	forwardedNet = "[network.dev]\nsubnet = \"10.77.0.0/24\"\n"
	gatewayOfDev = "10.77.0.1"
)

// forwarding runs web in the mode with these ports, and servers in its guest: port 80 of TCP and
// 53 of UDP tell a client its address, and port 7 echoes.
func (l *testHost) forwarding(mode, ports string) {
	l.Helper()
	lab.Sh(l, `
ip -n inet addr add 2001:db8:1::1/64 dev lan0 nodad
ip addr add 2001:db8:1::10/64 dev eth0 nodad
ip link add docker0 type bridge
sysctl -qw net.ipv6.conf.docker0.disable_ipv6=1
ip link set docker0 addrgenmode none up
ip addr add 172.18.0.1/24 dev docker0`)
	lab.Guest(l, "box", "docker0", "172.18.0.2/24", "172.18.0.1")
	lab.Eventually(l, 10*time.Second, "docker0 is up", func() bool {
		out, err := lab.Try("ip -o link show docker0 | grep 'state UP'")
		return err == nil && out != ""
	})
	l.prepared()
	l.must("run", "-d", l.profile("web", idle+"[[nic]]\nmode = \""+mode+"\"\nnetwork = \"dev\"\naddress = \"10.77.0.11\"\nports = ["+ports+"]\n"+forwardedNet))
	lab.Guest(l, "web", "qn-dev", "10.77.0.11/24", gatewayOfDev)
	lab.Guest(l, "db", "qn-dev", "10.77.0.12/24", gatewayOfDev)
	lab.InNamespace(l, "web", func() error {
		tell := func(c net.Conn) { fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).IP) }
		return serveAll(l, map[string]func(net.Conn){":80": tell, ":7": func(c net.Conn) { io.Copy(c, c) }}, ":53")
	})
}

// guestsGone removes the namespaces that stood for guests.
func (l *testHost) guestsGone() {
	l.Helper()
	lab.Sh(l, "ip link del vweb; ip link del vdb; ip netns del web; ip netns del db")
}

// serveAll serves TCP and UDP in the thread's namespace, until the test's end.
func serveAll(l *testHost, tcp map[string]func(net.Conn), udp string) error {
	for address, serve := range tcp {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		l.Cleanup(func() { listener.Close() })
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					serve(c)
				}()
			}
		}()
	}
	c, err := net.ListenPacket("udp", udp)
	if err != nil {
		return err
	}
	l.Cleanup(func() { c.Close() })
	go func() {
		for {
			_, from, err := c.ReadFrom(make([]byte, 100))
			if err != nil {
				return
			}
			fmt.Fprintln(&answer{c, from}, from.(*net.UDPAddr).IP)
		}
	}()
	return nil
}

type answer struct {
	net.PacketConn
	to net.Addr
}

func (a *answer) Write(b []byte) (int, error) { return a.WriteTo(b, a.to) }

// ask returns what a server in the guest says to a client in a namespace, "" for the host.
func (l *testHost) ask(from, network, address string) (said string) {
	l.Helper()
	try := func() error {
		c, err := net.DialTimeout(network, address, 3*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if network == "udp" {
			fmt.Fprintln(c, "who?")
		}
		said, err = bufio.NewReader(c).ReadString('\n')
		return err
	}
	var err error
	if from == "" {
		err = try()
	} else {
		lab.InNamespace(l, from, func() error { err = try(); return nil })
	}
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(said)
}

// Who reaches a forwarded port, from where, and what the guest sees: from everywhere, as of the
// matrix in docs/ports.md.
func TestForwardsFromEverywhere(t *testing.T) {
	for _, mode := range []string{"nat", "host-only"} {
		t.Run(mode, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				l.forwarding(mode, `"*:8080:80", "*:8080:53/udp", "2080:80", "2080:53/udp", "192.0.2.10:8081:80", "192.0.2.10:8081:53/udp"`)
				dnat := map[int]bool{}
				for _, r := range l.forwardsOf("web") {
					dnat[int(r.Port)] = r.How == "dnat"
				}
				if dnat[2080] || mode == "host-only" && (dnat[8080] || dnat[8081]) {
					t.Errorf("by DNAT: %v", dnat)
				}
				// With it a guest that routes 127.0.0.0/8 to the host reaches its loopback.
				if on := lab.Sh(l, "grep -l 1 /proc/sys/net/ipv4/conf/*/route_localnet || true"); on != "" {
					t.Errorf("route_localnet is on: %s", on)
				}
				for _, filtered := range []string{"0", "1"} {
					if os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(filtered), 0) != nil && filtered == "1" {
						t.Log("the kernel has no br_netfilter")
						break
					}
					for _, network := range []string{"tcp", "udp"} {
						l.askFromEverywhere(network, dnat, "br_netfilter "+filtered)
					}
				}
				l.guestsGone()
				l.must("stop", "--force", "web")
			})
		})
	}
}

func (l *testHost) askFromEverywhere(network string, dnat map[int]bool, when string) {
	l.Helper()
	for _, c := range []struct{ from, client, host string }{
		{"", "", "127.0.0.1:2080"},
		{"", "", "[::1]:2080"},
		{"", "", "127.0.0.1:8080"},
		{"", "", "127.0.0.9:8080"},
		{"", "", "[::1]:8080"},
		{"", "", "192.0.2.10:8080"},
		{"", "", "192.0.2.10:8081"},
		{"", "", "[2001:db8:1::10]:8080"},
		{"", "", gatewayOfDev + ":8080"},
		{"", "", "172.18.0.1:8080"},
		{"inet", "192.0.2.1", "192.0.2.10:8080"},
		{"inet", "192.0.2.1", "192.0.2.10:8081"},
		{"inet", "", "[2001:db8:1::10]:8080"},
		{"box", "172.18.0.2", "172.18.0.1:8080"},
		{"box", "172.18.0.2", "192.0.2.10:8080"},
		{"box", "172.18.0.2", "192.0.2.10:8081"},
		{"web", "", "192.0.2.10:8080"},
		{"web", "", "192.0.2.10:8081"},
		{"web", "", gatewayOfDev + ":8080"}, // the VM itself
		{"db", "", "192.0.2.10:8080"},
		{"db", "", "192.0.2.10:8081"},
		{"db", "", gatewayOfDev + ":8080"},
	} {
		want := gatewayOfDev
		_, port, _ := net.SplitHostPort(c.host)
		if n, _ := strconv.Atoi(port); c.client != "" && dnat[n] {
			want = c.client
		}
		if got := l.ask(c.from, network, c.host); got != want {
			l.Errorf("%s, %s from %q to %s: got %q, want %s", when, network, c.from, c.host, got, want)
		}
	}
	if got := l.ask("inet", network, "192.0.2.10:2080"); !strings.Contains(got, "refused") {
		l.Errorf("%s from the LAN to a port of the loopback: got %q", network, got)
	}
}

// What a keeper's end leaves alone: connections by relay and by DNAT, and new ones.
func TestForwardsOutliveTheKeeper(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.forwarding("nat", `"*:7007:7", "*:8080:53/udp"`)
		var conns []net.Conn
		for _, from := range []string{"127.0.0.1", "192.0.2.10"} {
			for range 10 {
				dial := func() error {
					c, err := net.Dial("tcp", from+":7007")
					conns = append(conns, c)
					return err
				}
				if from != "127.0.0.1" {
					lab.InNamespace(l, "inet", dial)
				} else if err := dial(); err != nil {
					t.Fatal(err)
				}
			}
		}
		echo := func(when string) {
			var all sync.WaitGroup
			for i, c := range conns {
				all.Go(func() {
					c.SetDeadline(time.Now().Add(10 * time.Second))
					fmt.Fprintf(c, "%s %d\n", when, i)
					if line, err := bufio.NewReader(c).ReadString('\n'); line != fmt.Sprintf("%s %d\n", when, i) {
						t.Errorf("%s, connection %d: got %q, %v", when, i, line, err)
					}
				})
			}
			all.Wait()
		}
		echo("before")
		old := l.networks()[0].KeeperPID
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		echo("at once")
		lab.Eventually(t, 20*time.Second, "another keeper", func() bool {
			list := l.networks()
			return len(list) > 0 && len(list[0].VMs) == 1 && list[0].KeeperPID != old
		})
		echo("by the next keeper")
		for _, from := range []string{"", "inet", "db"} {
			if got := l.ask(from, "udp", "192.0.2.10:8080"); net.ParseIP(got) == nil {
				t.Errorf("from %q: got %q", from, got)
			}
		}
		l.must("forward", "add", "web", "*:9080:80")
		l.must("forward", "rm", "web", "*:7007:7")
		for i, c := range conns {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprintln(c, "more")
			if _, err := c.Read(make([]byte, 100)); err == nil {
				t.Errorf("connection %d lives on behind forward rm", i)
			}
			c.Close()
		}
		if got := l.ask("inet", "tcp", "192.0.2.10:9080"); net.ParseIP(got) == nil {
			t.Errorf("got %q", got)
		}
		l.guestsGone()
		l.must("stop", "--force", "web")
	})
}

// Datagrams of a client that keeps its port reach the guest by DNAT from the next one behind
// forward add on, also if it began a second before, and their answers come back. Behind forward rm
// there are none.
func TestForwardedDatagrams(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.forwarding("nat", "")
		var c net.Conn
		lab.InNamespace(l, "inet", func() (err error) {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4444}}
			c, err = d.DialContext(l.Context(), "udp4", "192.0.2.10:8053")
			return err
		})
		defer c.Close()
		// ask sends a datagram every 100 ms, for a second, until one is answered.
		ask := func() (answer string, sent int) {
			b := make([]byte, 100)
			for sent < 10 {
				fmt.Fprintln(c, "who?") // the kernel may tell of an ICMP error of the one before
				sent++
				c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				for {
					n, err := c.Read(b)
					if err == nil {
						return strings.TrimSpace(string(b[:n])), sent
					}
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
				}
			}
			return "", sent
		}
		if got, _ := ask(); got != "" {
			t.Fatalf("answered %q before", got)
		}
		l.must("forward", "add", "web", "192.0.2.10:8053:53/udp")
		for range 5 {
			if got, sent := ask(); got != "192.0.2.1" || sent > 5 {
				t.Errorf("the guest sees %q of datagram %d", got, sent)
			}
		}
		l.must("forward", "rm", "web", "192.0.2.10:8053:53/udp")
		if got, _ := ask(); got != "" {
			t.Errorf("answered %q behind forward rm", got)
		}
		l.guestsGone()
		l.must("stop", "--force", "web")
	})
}
