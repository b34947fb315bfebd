package keeper_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/nft/counters"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// plugGuest makes a namespace that stands for a guest, behind the port's own tap: eth0 has the
// guest's MAC, and a goroutine for each direction carries the frames, as QEMU does.
func plugGuest(t *testing.T, name string, p keeper.Port, gateway netip.Addr) {
	t.Helper()
	var inner *os.File
	lab.Sh(t, "ip netns add "+name)
	lab.InNamespace(t, name, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		inner = os.NewFile(uintptr(fd), name) // non-blocking, so that Close ends a Read
		return nil
	})
	dup, err := unix.Dup(int(p.File.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(dup, true)
	outer := os.NewFile(uintptr(dup), p.Tap)
	t.Cleanup(func() { inner.Close(); outer.Close() })
	go carry(inner, outer, func(frame []byte) []byte { return append(make([]byte, vnetHeader), frame...) })
	go carry(outer, inner, func(frame []byte) []byte { return frame[vnetHeader:] })
	lab.Sh(t, fmt.Sprintf("ip -n %[1]s link set lo up; ip -n %[1]s link set eth0 address %[2]s addrgenmode none; ip -n %[1]s link set eth0 up", name, p.MAC))
	if p.Address.IsValid() {
		lab.Sh(t, fmt.Sprintf("ip -n %[1]s addr add %[2]s/24 dev eth0; ip -n %[1]s route add default via %[3]s", name, p.Address, gateway))
	}
}

func carry(from, to *os.File, edit func([]byte) []byte) {
	for b := make([]byte, 70000); ; {
		n, err := from.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil && n > vnetHeader {
			to.Write(edit(b[:n]))
		}
	}
}

// dials reports how a connection from a guest ends: "" for well, else the kernel's words.
func dials(t *testing.T, from, address string) (result string) {
	t.Helper()
	lab.InNamespace(t, from, func() error {
		c, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		result = "timeout"
		if errno := unix.Errno(0); errors.As(err, &errno) {
			result = errno.Error()
		}
		return nil
	})
	return result
}

// dialled compares how connections of a guest end.
func dialled(t *testing.T, from string, want map[string]string) {
	t.Helper()
	for address, wanted := range want {
		if got := dials(t, from, address); got != wanted {
			t.Errorf("%s to %s: %q, want %q", from, address, got, wanted)
		}
	}
}

const refused = "connection refused"

// serveTCP accepts at the addresses of a namespace, "" for the host.
func serveTCP(t *testing.T, ns string, addresses ...string) (stop func()) {
	t.Helper()
	var listeners []net.Listener
	listen := func() error {
		for _, a := range addresses {
			l, err := net.Listen("tcp", a)
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go echo(c)
				}
			}()
		}
		return nil
	}
	if ns != "" {
		lab.InNamespace(t, ns, listen)
	} else if err := listen(); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, l := range listeners {
			l.Close()
		}
	}
}

// reaching joins with a policy, and plugs a guest in.
func reaching(t *testing.T, o Options, n Network, vm string, last byte, p reach.Policy) *Registration {
	t.Helper()
	ports := port(last)
	ports[0].Reach = p
	if n.Mode.HasSubnet() {
		ports[0].Address = netip.AddrFrom4([4]byte{10, 77, 0, last})
	}
	r := mustJoin(t, o, n, vm, ports)
	plugGuest(t, vm, r.Ports()[0], r.Info().Gateway)
	return r
}

// unplug ends a guest and its registration.
func unplug(t *testing.T, r *Registration, vm string) {
	t.Helper()
	lab.Sh(t, "ip netns del "+vm)
	mustLeave(t, r)
}

func countOf(t *testing.T, family nft.Family, chain, tap, of string) uint64 {
	t.Helper()
	counts, err := counters.Read(family, egress.TableName(tap), chain)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Of == of {
			return c.Packets
		}
	}
	return 0
}

// A guest without LAN reaches the Internet, and no network of the host's: by TCP, by fragments, nor
// one that the host joins while the guest runs, nor behind a dead keeper. It learns that at once.
func TestGuestWithoutLAN(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Sh(t, "ip -n inet addr add 10.200.0.1/32 dev lo; ip -n inet addr add 198.51.100.1/24 dev lan0; ip -n inet addr add 169.254.169.254/32 dev lo")
		serveTCP(t, "inet", "203.0.113.1:80", "192.0.2.1:80", "10.200.0.1:80", "198.51.100.1:80")
		r := reaching(t, o, natNet, "web", 9, reach.Policy{NoLAN: true})
		other := reaching(t, o, natNet, "other", 10, reach.Policy{})
		dialled(t, "other", map[string]string{"203.0.113.1:80": "", "192.0.2.1:80": "", "10.200.0.1:80": ""})
		dialled(t, "web", map[string]string{
			"203.0.113.1:80": "", "192.0.2.1:80": refused, "10.200.0.1:80": refused, "198.51.100.1:80": "", "10.77.0.10:80": refused, "100.64.0.1:80": refused,
		})
		if lab.Pings("web", "192.0.2.1") || lab.Pings("web", "-s 4000 192.0.2.1") || lab.Pings("web", "10.200.0.1") {
			t.Error("a ping passed")
		}
		if !lab.Pings("web", "-s 4000 203.0.113.1") || !lab.Pings("web", "10.77.0.10") || !lab.Pings("web", "10.77.0.1") {
			t.Error("a ping to the Internet, a neighbour or the gateway did not pass")
		}
		if countOf(t, nft.INet, egress.ForwardChain, r.Ports()[0].Tap, egress.ToLAN) < 6 {
			t.Error("what was refused was not counted")
		}
		lab.Sh(t, "ip addr add 198.51.100.7/24 dev eth0")
		lab.Eventually(t, 5*time.Second, "the new network is closed", func() bool { return dials(t, "web", "198.51.100.1:80") == refused })
		replaceKeeper(t, o)
		dialled(t, "web", map[string]string{"203.0.113.1:80": "", "198.51.100.1:80": refused, "192.0.2.1:80": refused})
		lab.Sh(t, "nft delete table inet "+egress.TableName(r.Ports()[0].Tap)+" 2>/dev/null || true") // where the kernel has no owners
		lab.Eventually(t, 5*time.Second, "mended", func() bool { return dials(t, "web", "198.51.100.1:80") == refused })
		lab.Sh(t, "ip addr del 198.51.100.7/24 dev eth0")
		lab.Eventually(t, 5*time.Second, "the network is open again", func() bool { return dials(t, "web", "198.51.100.1:80") == "" })
		unplug(t, other, "other")
		unplug(t, r, "web")
	})
}

// A guest whose host is "none" gets an address and names, may ping the gateway, and reaches nothing
// else of the host by any of its addresses. The host reaches the guest.
func TestGuestWithoutHost(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		defer serveTCP(t, "", ":8080")()
		r := reaching(t, o, natNet, "web", 9, reach.Policy{NoHost: true})
		other := reaching(t, o, natNet, "other", 10, reach.Policy{})
		serveTCP(t, "web", ":80")
		serveTCP(t, "inet", "203.0.113.1:80")
		dialled(t, "other", map[string]string{"10.77.0.1:8080": "", "192.0.2.10:8080": ""})
		dialled(t, "web", map[string]string{"10.77.0.1:8080": refused, "192.0.2.10:8080": refused, "203.0.113.1:80": "", "10.77.0.1:53": ""})
		if !lab.Pings("web", "10.77.0.1") || lab.Pings("web", "192.0.2.10") {
			t.Error("a ping of the gateway did not pass, or one of another address of the host's did")
		}
		if out, err := lab.Try("ip netns exec web busybox nslookup other.qnet 10.77.0.1"); !strings.Contains(out, "10.77.0.10") {
			t.Errorf("names: %s, %v", out, err)
		}
		if out, err := lab.Try("ip netns exec web busybox udhcpc -i eth0 -n -q -f -t 3 -T 1 -s /bin/true"); err != nil {
			t.Errorf("lease: %s", out)
		}
		c, err := net.DialTimeout("tcp", "10.77.0.9:80", 2*time.Second)
		if err != nil {
			t.Fatalf("the host does not reach the guest: %v", err)
		}
		c.Close()
		unplug(t, other, "other")
		unplug(t, r, "web")
	})
}

// An isolated guest and its neighbours, isolated or not, get no frame of each other, by the bridge or
// by the host's routing, with br_netfilter and without. It reaches what its mode promises.
func TestIsolatedGuest(t *testing.T) {
	for _, n := range []Network{natNet, {Name: "dev", Mode: profiles.HostOnly, Subnet: subnet}, {Name: "dev", Mode: profiles.Private}} {
		t.Run(string(n.Mode), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				vms := map[string]*Registration{
					"alone": reaching(t, o, n, "alone", 9, reach.Policy{Isolated: true}), "lone": reaching(t, o, n, "lone", 11, reach.Policy{Isolated: true}),
					"other": reaching(t, o, n, "other", 10, reach.Policy{}), "another": reaching(t, o, n, "another", 12, reach.Policy{}),
				}
				address := map[string]string{"alone": "10.77.0.9", "other": "10.77.0.10", "lone": "10.77.0.11", "another": "10.77.0.12"}
				for vm := range vms {
					if n.Mode == profiles.Private {
						lab.Sh(t, "ip -n "+vm+" addr add "+address[vm]+"/24 dev eth0")
					}
					// Without ARP, so that frames do not wait for an answer that does not come.
					for neighbour, at := range address {
						if neighbour != vm {
							lab.Sh(t, fmt.Sprintf("ip -n %s neigh replace %s lladdr %s dev eth0 nud permanent", vm, at, vms[neighbour].Ports()[0].MAC))
						}
					}
				}
				passes := func(what string) {
					t.Helper()
					var wait sync.WaitGroup
					for from := range vms {
						for to := range vms {
							want := from[len(from)-1] == 'r' && to[len(to)-1] == 'r' // of other and another
							wait.Go(func() {
								if got := lab.Pings(from, address[to]); from != to && got != want {
									t.Errorf("%s: %s to %s: %t", what, from, to, got)
								}
							})
						}
					}
					wait.Wait()
				}
				for _, call := range []string{"0", "1"} {
					lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables="+call+" net.bridge.bridge-nf-call-ip6tables="+call+" 2>/dev/null || true")
					passes("bridged, br_netfilter " + call)
				}
				if isolated := lab.Sh(t, "bridge -d link show dev "+vms["alone"].Ports()[0].Tap); !strings.Contains(isolated, "isolated on") {
					t.Errorf("got %s", isolated)
				}
				if n.Mode == profiles.Private {
					leaveAll(t, vms)
					return
				}
				for vm := range vms { // every packet to the gateway's MAC
					for neighbour, at := range address {
						if neighbour != vm {
							lab.Sh(t, fmt.Sprintf("ip -n %[1]s neigh del %[2]s dev eth0; ip -n %[1]s route replace %[2]s/32 via 10.77.0.1", vm, at))
						}
					}
				}
				for _, pair := range [][2]string{{"alone", "other"}, {"other", "alone"}, {"alone", "lone"}, {"other", "another"}} {
					if lab.Pings(pair[0], address[pair[1]]) {
						t.Errorf("%s to %s: by the host's routing", pair[0], pair[1])
					}
				}
				if !lab.Pings("alone", "10.77.0.1") || n.Mode == profiles.NAT && !lab.Pings("alone", "203.0.113.1") {
					t.Error("the gateway or the Internet is not there")
				}
				leaveAll(t, vms)
			})
		})
	}
}

func leaveAll(t *testing.T, vms map[string]*Registration) {
	t.Helper()
	for vm, r := range vms {
		unplug(t, r, vm)
	}
}

// What the keeper refuses of a policy, whatever the supervisor says.
func TestReachIsRefused(t *testing.T) {
	for _, c := range []struct {
		mode      profiles.Mode
		policy    reach.Policy
		unguarded bool
		want      string
	}{
		{profiles.Bridge, reach.Policy{Isolated: true}, false, "isolated in mode bridge; allowed in: private, host-only, nat"},
		{profiles.Private, reach.Policy{NoHost: true}, false, `host = "none" in mode private; allowed in: host-only, nat`},
		{profiles.HostOnly, reach.Policy{NoLAN: true}, false, "lan = false in mode host-only; allowed in: nat"},
		{profiles.HostOnly, reach.Policy{Listed: true}, false, "egress in mode host-only; allowed in: nat"},
		{profiles.NAT, reach.Policy{Entries: make([]reach.Entry, 1)}, false, "a list of 1 entries"},
		{profiles.NAT, reach.Policy{Listed: true, Entries: make([]reach.Entry, 257)}, false, "allowed: 256"},
		{profiles.NAT, reach.Policy{NoLAN: true}, true, "lan = false without a guard"},
		{profiles.NAT, reach.Policy{Isolated: true, NoHost: true, NoLAN: true}, false, ""},
	} {
		ports := port(1)
		ports[0].Reach, ports[0].Unguarded = c.policy, c.unguarded
		err := keeper.Request{Op: keeper.OpJoin, VM: "web", Network: Network{Name: "dev", Mode: c.mode}, Ports: ports}.Validate()
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %+v: %v, want %q", c.mode, c.policy, err, c.want)
		}
	}
}
