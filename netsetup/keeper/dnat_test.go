package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	guestAddress = "10.77.0.9"
	hostAddress  = "192.0.2.10" // on the LAN
	lanAddress   = "192.0.2.1"  // of another machine there
)

// tellPeer serves at an address of a namespace: each client gets the address that the server sees.
func tellPeer(t *testing.T, ns, address string) (stops []io.Closer) {
	t.Helper()
	lab.InNamespace(t, ns, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		stops = append(stops, l)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap())
				go echo(c)
			}
		}()
		u, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		stops = append(stops, u)
		go func() {
			for b := make([]byte, 64); ; {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo([]byte(netip.MustParseAddrPort(from.String()).Addr().String()), from)
			}
		}()
		return nil
	})
	return stops
}

func echo(c net.Conn) {
	io.Copy(c, c)
	c.Close()
}

// relay stands for the supervisor's: it passes on what comes to a TCP forward's socket.
func relay(t *testing.T, socket *os.File) io.Closer {
	t.Helper()
	l, err := net.FileListener(socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g, err := net.DialTimeout("tcp", guestAddress+":80", time.Second)
			if err != nil {
				c.Close()
				continue
			}
			go func() {
				io.Copy(g, c)
				g.(*net.TCPConn).CloseWrite()
			}()
			go func() {
				io.Copy(c, g)
				c.Close()
			}()
		}
	}()
	return l
}

// seen is the address that a server sees of a client in a namespace, "" of the host; "-" where
// the client reaches none.
func seen(from, address string, port uint16) string {
	cmd := fmt.Sprintf("timeout 2 busybox nc -w 1 %s %d </dev/null", address, port)
	if from != "" {
		cmd = strings.Replace(cmd, "busybox", "ip netns exec "+from+" busybox", 1)
	}
	out, _ := lab.Try(cmd)
	if a, err := netip.ParseAddr(strings.TrimSpace(out)); err == nil {
		return a.String()
	}
	return "-"
}

// forwarded is a VM with forwards, and what serves in place of its guest and its supervisor.
type forwarded struct {
	*Registration
	stops []io.Closer
}

// stop ends the guest and the registration.
func (f *forwarded) stop(t *testing.T) {
	t.Helper()
	for _, s := range f.stops {
		s.Close()
	}
	lab.Sh(t, "ip netns del guest")
	mustLeave(t, f.Registration)
}

// forwarding joins with forwards of a guest that serves at port 80, and relays the TCP ones.
func forwarding(t *testing.T, o Options, list ...keeper.Forward) *forwarded {
	t.Helper()
	return served(t, mustJoin(t, o, natNet, "web", guestWith(list...)))
}

// guestWith is the request of a guest with forwards.
func guestWith(list ...keeper.Forward) []PortRequest {
	requests := withForwards(1, list...)
	requests[0].Address = netip.MustParseAddr(guestAddress)
	return requests
}

// served serves in place of the guest of a VM that has joined, and of its supervisor.
func served(t *testing.T, r *Registration) *forwarded {
	t.Helper()
	f := &forwarded{Registration: r}
	natGuest(t)
	f.stops = tellPeer(t, "guest", ":80")
	for i, made := range f.Ports()[0].Forwards {
		if made.Proto == "tcp" {
			f.stops = append(f.stops, relay(t, f.Ports()[0].Sockets[i]))
		}
	}
	return f
}

// bridgeCalls turns br_netfilter on or off, where the kernel has it.
func bridgeCalls(t *testing.T, on string) {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		t.Skip("no br_netfilter")
	}
	lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables="+on)
}

// The matrix: everyone reaches the port, and the guest sees who calls from other machines and
// containers.
func TestForwardsReach(t *testing.T) {
	for _, calls := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables "+calls, func(t *testing.T) {
			beside(t, func(t *testing.T) { bridgeCalls(t, calls) }, func(t *testing.T, o Options) {
				lab.Sh(t, "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up; sysctl -qw net.ipv4.conf.docker0.forwarding=1")
				lab.Guest(t, "box", "docker0", "172.17.0.2/16", "172.17.0.1")
				apart := mustJoin(t, o, Network{Name: "apart", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.78.0.0/24")}, "apart", port(5))
				r := forwarding(t, o, at("tcp", "*", 8080), at("tcp", hostAddress, 8081), at("tcp", "127.0.0.1", 8082))
				lab.Guest(t, "neighbour", "qn-dev", "10.77.0.8/24", "10.77.0.1")
				lab.Guest(t, "other", "qn-apart", "10.78.0.8/24", "10.78.0.1")
				const gateway = "10.77.0.1"
				for _, c := range []struct {
					from, to string
					port     uint16
					want     string
				}{
					{"", "127.0.0.1", 8080, gateway},
					{"", "::1", 8080, gateway},
					{"", "127.0.0.1", 8082, gateway},
					{"", hostAddress, 8080, gateway},
					{"", gateway, 8080, gateway},
					{"", hostAddress, 8081, gateway},
					{"inet", hostAddress, 8080, lanAddress},
					{"inet", hostAddress, 8081, lanAddress},
					{"guest", hostAddress, 8080, gateway},
					{"guest", gateway, 8080, gateway},
					{"guest", hostAddress, 8081, gateway},
					{"neighbour", hostAddress, 8080, gateway},
					{"neighbour", gateway, 8080, gateway},
					{"other", "10.78.0.1", 8080, gateway},
					{"other", hostAddress, 8081, gateway},
					{"box", hostAddress, 8080, "172.17.0.2"},
					{"box", "172.17.0.1", 8080, "172.17.0.2"},
					{"box", hostAddress, 8081, "172.17.0.2"},
					{"box", "172.17.0.1", 8081, "-"},
					{"inet", hostAddress, 8082, "-"},
					{"inet", hostAddress, 80, "-"},
					{"guest", "127.0.0.1", 8082, "-"},
				} {
					if got := seen(c.from, c.to, c.port); got != c.want {
						t.Errorf("%q to %s:%d: the guest sees %q, want %q", c.from, c.to, c.port, got, c.want)
					}
				}
				if got := ofForwards(t, o, func(f keeper.Forwarded) string { return fmt.Sprint(f.Connections) }); got != "3 2 0" {
					t.Errorf("%s connections by DNAT", got)
				}
				hijacksNothing(t)
				if got := howOf(t, o); got != "dnat dnat relay" {
					t.Errorf("done by %s", got)
				}
				lab.Sh(t, "ip netns del box; ip netns del neighbour; ip netns del other; ip link del docker0")
				r.stop(t)
				mustLeave(t, apart)
			})
		})
	}
}

// hijacksNothing checks what must not reach the guest, nor the host's loopback.
func hijacksNothing(t *testing.T) {
	t.Helper()
	for _, s := range tellPeer(t, "inet", "203.0.113.1:8080") {
		defer s.Close()
	}
	if got := seen("neighbour", "203.0.113.1", 8080); got != hostAddress {
		t.Errorf("a neighbour's connection to another machine's port 8080 is answered with %q", got)
	}
	lab.Sh(t, "ip -n inet route add 10.77.0.0/24 via "+hostAddress)
	if got := seen("inet", guestAddress, 80); got != "-" {
		t.Errorf("the LAN reaches the guest itself: %q", got)
	}
	lab.Sh(t, "ip -n inet route del 10.77.0.0/24")
	l, err := net.Listen("tcp", "127.0.0.1:9999")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lab.Sh(t, "ip -n guest route add table 7 127.0.0.1 via 10.77.0.1; ip -n guest rule add pref 0 to 127.0.0.1 lookup 7; "+
		"ip -n guest rule add pref 32765 lookup local; ip -n guest rule del pref 0 lookup local; ip netns exec guest sysctl -qw net.ipv4.conf.all.route_localnet=1")
	if out, err := lab.Try("timeout 2 ip netns exec guest busybox nc -w 1 127.0.0.1 9999 </dev/null"); err == nil {
		t.Errorf("a guest reaches the host's loopback: %q", out)
	}
	lab.Sh(t, "ip -n guest rule del pref 0")
	lab.Sh(t, "! sysctl -a 2>/dev/null | grep 'route_localnet = 1'")
}

// howOf says how each forward is done.
func howOf(t *testing.T, o Options) string {
	t.Helper()
	return ofForwards(t, o, func(f keeper.Forwarded) string { return f.How })
}

// Other programs' FORWARD chains let the forwarded port pass, and no other; the accept goes with
// the forward.
func TestForwardsPassOtherFilters(t *testing.T) {
	for _, engine := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(engine, func(t *testing.T) {
			lab.Require(t, lab.Program(engine))
			beside(t, func(t *testing.T) { lab.Sh(t, engine+" -P FORWARD DROP") }, func(t *testing.T, o Options) {
				r := forwarding(t, o, at("tcp", "*", 8080))
				if got := seen("inet", hostAddress, 8080); got != lanAddress {
					t.Errorf("the guest sees %q", got)
				}
				const rule = "-d 10.77.0.9/32 -o qn-dev -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT"
				rules := lab.Sh(t, engine+" -S FORWARD")
				if strings.Count(rules, rule) != 1 {
					t.Errorf("no accept, or more than one:\n%s", rules)
				}
				files, err := r.Forward(t.Context(), 0, []keeper.Forward{{Proto: "udp", Port: 5353, Guest: 53}})
				if err != nil {
					t.Fatal(err)
				}
				if rules := lab.Sh(t, engine+" -S FORWARD"); !strings.Contains(rules, "-p udp -m udp --dport 53 -m conntrack --ctstate DNAT") {
					t.Errorf("no accept of the new one:\n%s", rules)
				}
				if err := r.Unforward(t.Context(), 0, []keeper.Forward{at("tcp", "*", 8080), {Proto: "udp", Port: 5353, Guest: 53}}); err != nil {
					t.Error(err)
				}
				keeper.CloseAll(files)
				if rules := lab.Sh(t, engine+" -S FORWARD"); strings.Contains(rules, "DNAT") {
					t.Errorf("an accept stays without a forward:\n%s", rules)
				}
				lab.Sh(t, "! nft list table inet qnet_dev | grep forward_")
				r.stop(t)
			})
		})
	}
}

// Where another program takes the port, or keeps other machines from the host's own sockets, the
// keeper tells the user, with what to do. A DNAT'ed port meets no chain for the host's own sockets.
func TestForwardsBarred(t *testing.T) {
	closed := func(engine string) func(t *testing.T) {
		return func(t *testing.T) { lab.Sh(t, engine+" -P INPUT DROP; "+engine+" -A INPUT -i lo -j ACCEPT") }
	}
	docker := func(engine string) func(t *testing.T) {
		return func(t *testing.T) {
			lab.Sh(t, "X="+engine+`; $X -t nat -N DOCKER; $X -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
$X -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80`)
		}
	}
	alone := Network{Name: "dev", Mode: profiles.HostOnly}
	for name, c := range map[string]struct {
		start func(t *testing.T)
		n     Network
		want  string
	}{
		"Docker":                {docker("iptables-nft"), natNet, `forward *:8080:80: Docker (iptables-nft, table ip nat, chain DOCKER: -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT) takes what other machines send to tcp port 8080; publish another port there, or forward another one`},
		"Docker, legacy":        {docker("iptables-legacy"), natNet, "takes what other machines send to tcp port 8080; publish another port"},
		"Docker, host-only":     {docker("iptables-nft"), alone, "takes what other machines send to tcp port 8080"},
		"INPUT DROP, host-only": {closed("iptables-nft"), alone, "drops what other machines send to tcp port 8080; qnet does not edit its rules: to let it pass, run `iptables-nft -w 10 -t filter -I INPUT -p tcp --dport 8080 -j ACCEPT`"},
		"INPUT DROP, nat":       {closed("iptables-nft"), natNet, ""},
		"an nft ruleset": {func(t *testing.T) {
			lab.Sh(t, "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }; add rule inet fw in ct state established,related accept; add rule inet fw in iif lo accept'")
		}, alone, "run `nft insert rule inet fw in tcp dport 8080 accept`"},
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, lab.Program("iptables-nft"), lab.Legacy)
			beside(t, c.start, func(t *testing.T, o Options) {
				var mu sync.Mutex
				var notes []string
				o.Note = func(n keeper.Note) {
					mu.Lock()
					defer mu.Unlock()
					if strings.HasPrefix(n.Subject, "forward ") {
						notes = append(notes, n.String())
					}
				}
				said := func() string {
					mu.Lock()
					defer mu.Unlock()
					text := strings.Join(notes, "\n")
					notes = nil
					return text
				}
				fits := func(when, got string) {
					if c.want == "" && got != "" || !strings.Contains(got, c.want) {
						t.Errorf("%s: said %q, want %q", when, got, c.want)
					}
				}
				r := mustJoin(t, o, c.n, "web", withForwards(1, at("tcp", "*", 8080), at("tcp", "127.0.0.1", 8082)))
				fits("at the start", said())
				if err := r.Unforward(t.Context(), 0, []keeper.Forward{at("tcp", "*", 8080)}); err != nil {
					t.Error(err)
				}
				r.Ports()[0].Sockets[0].Close()
				files, err := r.Forward(t.Context(), 0, []keeper.Forward{at("tcp", "*", 8080)})
				if err != nil {
					t.Error(err)
				}
				fits("live", said())
				keeper.CloseAll(files)
				mustLeave(t, r)
			})
		})
	}
}

// The keeper tells of a program that starts while the VM runs, and keeps other machines from its ports.
func TestForwardsBarredLater(t *testing.T) {
	lab.Require(t, lab.Program("iptables-nft"))
	inLab(t, func(t *testing.T, o Options) {
		told := make(chan keeper.Note, 64)
		o.Note = func(n keeper.Note) { told <- n }
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.HostOnly}, "web", withForwards(1, at("tcp", "*", 8080)))
		for range 2 {
			lab.Sh(t, "iptables-nft -P INPUT DROP; iptables-nft -P INPUT ACCEPT; iptables-nft -A INPUT -p tcp --dport 8080 -j DROP")
		}
		lab.Eventually(t, 10*time.Second, "a note", func() bool {
			for {
				select {
				case n := <-told:
					if n.Subject == "forward *:8080:80" && strings.Contains(n.Text, "drops what other machines send to tcp port 8080") {
						return true
					}
				default:
					return false
				}
			}
		})
		lab.Sh(t, "nft delete table ip filter")
		mustLeave(t, r)
	})
}

// A UDP client that asked before the forward was there gets an answer to its next packet, and by a
// forward that is gone none, though its port stays the same.
func TestForwardsForgetConnections(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := forwarding(t, o)
		var c net.Conn
		lab.InNamespace(t, "inet", func() (err error) {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(lanAddress), Port: 4444}}
			c, err = d.DialContext(context.Background(), "udp", hostAddress+":5353")
			return err
		})
		defer c.Close()
		ask := func() string {
			b := make([]byte, 64)
			for range 2 { // an ICMP error of the packet before may come first
				c.SetDeadline(time.Now().Add(300 * time.Millisecond))
				c.Write([]byte("who am I?"))
				if n, err := c.Read(b); err == nil {
					return string(b[:n])
				}
			}
			return ""
		}
		if got := ask(); got != "" {
			t.Errorf("answered %q before", got)
		}
		f := keeper.Forward{Proto: "udp", Address: netip.MustParseAddr(hostAddress), Port: 5353, Guest: 80}
		files, err := r.Forward(t.Context(), 0, []keeper.Forward{f})
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != lanAddress {
			t.Errorf("answered %q with the forward", got)
		}
		if err := r.Unforward(t.Context(), 0, []keeper.Forward{f}); err != nil {
			t.Fatal(err)
		}
		keeper.CloseAll(files)
		if got := ask(); got != "" {
			t.Errorf("answered %q without the forward", got)
		}
		r.stop(t)
	})
}

// Connections by relay and by DNAT go on while the keeper is killed and another takes over. While
// the table is gone, the relay has what comes; then it is there again.
func TestForwardsOutliveTheirRules(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := forwarding(t, o, at("tcp", "*", 8080))
		var conns []net.Conn
		for i := range 20 {
			ns, to := "inet", hostAddress+":8080"
			if i%2 == 0 {
				ns, to = "guest", "10.77.0.1:8080"
			}
			lab.InNamespace(t, ns, func() error {
				c, err := net.Dial("tcp", to)
				conns = append(conns, c)
				return err
			})
		}
		alive := func(when string) {
			t.Helper()
			for i, c := range conns {
				b := make([]byte, 64)
				c.SetDeadline(time.Now().Add(2 * time.Second))
				fmt.Fprintln(c, "still there?")
				for text := ""; !strings.Contains(text, "there?\n"); {
					n, err := c.Read(b)
					if err != nil {
						t.Fatalf("%s: connection %d: %v", when, i, err)
					}
					text += string(b[:n])
				}
			}
		}
		alive("at first")
		replaceKeeper(t, o)
		alive("behind the killed keeper")
		if got := seen("inet", hostAddress, 8080); got != lanAddress {
			t.Errorf("with the next keeper the guest sees %q", got)
		}

		release := r.Hold()
		infos, err := List(t.Context(), o.RunDir)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(infos[0].KeeperPID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 3*time.Second, "deletion", func() bool {
			_, err := lab.Try("nft delete table inet qnet_dev")
			return err == nil
		})
		if got := seen("inet", hostAddress, 8080); got != "10.77.0.1" {
			t.Errorf("without rules the guest sees %q", got)
		}
		release()
		lab.Eventually(t, 10*time.Second, "rules", func() bool { return seen("inet", hostAddress, 8080) == lanAddress })
		for _, c := range conns {
			c.Close()
		}
		r.stop(t)
	})
}

// The rules of a VM's forwards come behind the answer to its join. Those that a killed keeper did
// not make, the next one makes.
func TestForwardsFinishedByTheNextKeeper(t *testing.T) {
	for _, place := range []string{"keeper registered a VM", "keeper wrote the forwards to the journal", "did AddForwards"} {
		t.Run(place, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				came, release := hold(t, o, place)
				joined, err := Join(t.Context(), o, natNet, "web", guestWith(at("tcp", "*", 8080)))
				if err != nil {
					t.Fatal(err)
				}
				<-came
				if err := unix.Kill(joined.Info().KeeperPID, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				release()
				r := served(t, joined)
				lab.Eventually(t, 10*time.Second, "next keeper", func() bool {
					_, err := List(t.Context(), o.RunDir) // none answers while one takes over
					return err == nil && howOf(t, o) == "dnat"
				})
				if got := seen("inet", hostAddress, 8080); got != lanAddress {
					t.Errorf("the guest sees %q", got)
				}
				lab.Eventually(t, time.Second, "news", func() bool { return r.How(0, at("tcp", "*", 8080)) == keeper.ByDNAT })
				r.stop(t)
			})
		})
	}
}

// A VM that leaves as soon as it has joined leaves nothing of what comes behind the answer.
func TestForwardsOfAVMThatLeaves(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		other := mustJoin(t, o, natNet, "other", port(5))
		for range 5 {
			r, err := Join(t.Context(), o, natNet, "web", withForwards(1, at("tcp", "*", 8080), at("udp", hostAddress, 53)))
			if err != nil {
				t.Fatal(err)
			}
			mustLeave(t, r)
			lab.Sh(t, "! nft list table inet qnet_dev | grep -E 'forward_|forwarded4'; ! grep -r 8080 "+o.RunDir)
		}
		mustLeave(t, other)
	})
}

// A forward that the keeper was adding when it was killed is gone with the next keeper: its
// supervisor has no socket.
func TestForwardHalfMade(t *testing.T) {
	for _, place := range []string{"keeper wrote the forwards to the journal", "did AddForwards"} {
		t.Run(place, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				hook := filepath.Join(filepath.Dir(o.RunDir), "hook")
				if err := os.WriteFile(hook, []byte(place), 0o644); err != nil {
					t.Fatal(err)
				}
				r := forwarding(t, o, at("tcp", "127.0.0.1", 8080))
				killed := make(chan error)
				go func() {
					for !exists(hook + ".met") {
						time.Sleep(time.Millisecond)
					}
					killed <- errors.Join(os.Remove(hook), unix.Kill(r.Info().KeeperPID, unix.SIGKILL), os.Remove(hook+".met"))
				}()
				if _, err := r.Forward(t.Context(), 0, []keeper.Forward{at("tcp", "*", 8081)}); err == nil {
					t.Error("the keeper did not die")
				}
				if err := <-killed; err != nil {
					t.Fatal(err)
				}
				lab.Eventually(t, 10*time.Second, "next keeper", func() bool { return forwardsOf(t, o) == "127.0.0.1:8080:80" })
				lab.Eventually(t, 5*time.Second, "the end of the rules", func() bool {
					_, err := lab.Try("nft list table inet qnet_dev | grep 8081")
					return err != nil
				})
				r.stop(t)
			})
		})
	}
}
