package keeper_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
	"github.com/qnet-vm/qnet/profiles"
)

func TestMain(m *testing.M) {
	lab.Instrument(os.Args)
	if len(os.Args) > 2 && os.Args[1] == "sleepy" {
		sleepy := server.Process{Clocks: slept(os.Args[2])}
		os.Exit(sleepy.Main(context.Background(), os.Args[3:], os.Stdin, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(superviseMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "dial" {
		dialAll(os.Args[2:])
		os.Exit(0)
	}
	if kind, ok := strings.CutPrefix(os.Args[len(os.Args)-1], "--"); ok && (kind == "steward" || kind == "clerk") {
		obeyOrder(kind)
	}
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		if len(os.Args) > 3 {
			obeyHook(os.Args[3])
		}
		os.Exit(server.Main(context.Background(), os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

// inLab runs the test in a namespace with a network around it and options of its
// own, and checks afterwards that the host is as it was.
func inLab(t *testing.T, f func(t *testing.T, o Options)) {
	beside(t, func(*testing.T) {}, f)
}

// beside is inLab with another program there. The function start starts it.
func beside(t *testing.T, start func(t *testing.T), f func(t *testing.T, o Options)) {
	lab.Require(t, lab.Tun, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		o := labOptions(t)
		start(t)
		before := lab.Snapshot(t, o.RunDir)
		f(t, o)
		lab.NoRaces(t, filepath.Dir(o.RunDir))
		before.Check(t)
	})
}

// labOptions are a test's own: this binary is the keeper.
func labOptions(t *testing.T) Options {
	t.Helper()
	dir := lab.Dir(t)
	return Options{
		RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Exe: []string{"/proc/self/exe", "keeper"},
	}
}

func port(last byte) []PortRequest {
	return []PortRequest{{NIC: 0, MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, last}}}
}

func mustJoin(t *testing.T, o Options, n Network, vm string, ports []PortRequest) *Registration {
	t.Helper()
	r, err := Join(context.Background(), o, n, vm, ports)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Settled():
	case <-time.After(10 * time.Second):
		t.Fatal("the keeper does not tell how the forwards are done")
	}
	return r
}

func mustLeave(t *testing.T, r *Registration) {
	t.Helper()
	if err := errors.Join(r.Leave(context.Background()), r.Close()); err != nil {
		t.Error(err)
	}
}

var subnet = netip.MustParsePrefix("10.77.0.0/24")

func TestTwoVMsShareANetworkAndTheLastRemovesIt(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT} {
		t.Run(string(mode), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				n := Network{Name: "dev", Mode: mode}
				web := mustJoin(t, o, n, "web", port(1))
				db := mustJoin(t, o, n, "db", port(2))
				lab.Sh(t, "bridge link | grep qnweb0 | grep -q 'master qn-dev state forwarding'; bridge link | grep -q qndb0")
				infos, err := List(t.Context(), o.RunDir)
				if err != nil || len(infos) != 1 || len(infos[0].VMs) != 2 || infos[0].Bridge != "qn-dev" {
					t.Errorf("got %+v, %v", infos, err)
				}
				mustLeave(t, web)
				lab.Sh(t, "ip link show qndb0; ! ip link show qnweb0 2>&1")
				mustLeave(t, db)
			})
		})
	}
}

func TestKeeperHasThreeCapabilities(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1))
		defer mustLeave(t, r)
		status := lab.Sh(t, fmt.Sprintf("cat /proc/%d/status", r.Info().KeeperPID))
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
			if want := set + ":\t0000000000003400"; !strings.Contains(status, want) { // 10, 12, 13
				t.Errorf("want %s in\n%s", want, status)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT}
		pinned := n
		pinned.Subnet = subnet
		lab.Sh(t, "ip addr add 10.99.0.1/24 dev eth0")
		web := mustJoin(t, o, n, "web", port(1))
		taken := web.Ports()[0].Address
		for name, c := range map[string]struct {
			network Network
			vm      string
			ports   []PortRequest
			want    string
		}{
			"same-vm":      {n, "web", port(9), `VM "web" is on network "dev" already`},
			"other-mode":   {Network{Name: "dev", Mode: profiles.Private}, "db", port(2), "VMs [web] run it in mode nat"},
			"other-subnet": {pinned, "db", port(2), "VMs [web] run it with"},
			"other-uplink": {Network{Name: "dev", Mode: profiles.NAT, Uplink: "lo"}, "db", port(2), "with uplink"},
			"other-mtu":    {Network{Name: "dev", Mode: profiles.NAT, MTU: 9000}, "db", port(2), `VM "db" wants network "dev" with mtu 9000, VMs [web] run it with 1500`},
			"same-mac":     {n, "db", port(1), `which VM "web" has`},
			"same-address": {n, "db", []PortRequest{{MAC: port(2)[0].MAC, Address: taken}}, `which VM "web" has`},
			"gateway":      {n, "db", []PortRequest{{MAC: port(2)[0].MAC, Address: web.Info().Gateway}}, "no guest address"},
			"overlapping":  {Network{Name: "x", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.99.0.0/24")}, "db", port(2), "overlaps the host's address"},
			"not-private":  {Network{Name: "x", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.0.2.0/24")}, "db", port(2), "private (RFC 1918)"},
		} {
			_, err := Join(t.Context(), o, c.network, c.vm, c.ports)
			if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want a refusal with %q", name, err, c.want)
			}
		}
		mustLeave(t, web)
		lab.Sh(t, "ip addr del 10.99.0.1/24 dev eth0")
	})
}

// qnet neither uses nor removes what bears its name but not its mark.
func TestForeignObjectsOfOurName(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT}
		for name, c := range map[string]struct{ add, del string }{
			"bridge": {"ip link add qn-dev type bridge", "ip link del qn-dev"},
			"veth":   {"ip link add qn-dev type veth peer name other", "ip link del qn-dev"},
			"tap":    {"ip tuntap add qnweb0 mode tap", "ip tuntap del qnweb0 mode tap"},
			"table":  {"nft add table inet qnet_dev", "nft delete table inet qnet_dev"},
		} {
			lab.Sh(t, c.add)
			with := lab.Snapshot(t, o.RunDir)
			if _, err := Join(t.Context(), o, n, "web", port(1)); !errors.Is(err, host.ErrNotOurs) {
				t.Errorf("%s: got %v, want ErrNotOurs", name, err)
			}
			with.Check(t)
			lab.Sh(t, c.del)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		for round := range 3 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			seen := map[netip.Addr]bool{}
			for i := range 12 {
				wg.Go(func() {
					n := Network{Name: fmt.Sprintf("n%d", i%3), Mode: profiles.NAT}
					r, err := Join(context.Background(), o, n, fmt.Sprintf("vm%d", i), port(byte(i)))
					if err != nil {
						t.Errorf("round %d, VM %d: %v", round, i, err)
						return
					}
					mu.Lock()
					if a := r.Ports()[0].Address; seen[a] {
						t.Errorf("round %d: address %s twice", round, a)
					} else {
						seen[a] = true
					}
					mu.Unlock()
					mustLeave(t, r)
				})
			}
			wg.Wait()
		}
	})
}

// Two nat networks need the uplink's forwarding; the last one puts it back.
func TestNetworksShareASysctl(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		forwarding := func() string {
			return strings.TrimSpace(lab.Sh(t, "cat /proc/sys/net/ipv4/conf/eth0/forwarding"))
		}
		a := mustJoin(t, o, Network{Name: "a", Mode: profiles.NAT}, "vma", port(1))
		b := mustJoin(t, o, Network{Name: "b", Mode: profiles.NAT}, "vmb", port(2))
		mustLeave(t, a)
		if got := forwarding(); got != "1" {
			t.Errorf("after the first left: got %s, want 1", got)
		}
		mustLeave(t, b)
		if got := forwarding(); got != "0" {
			t.Errorf("after the last left: got %s, want 0", got)
		}
	})
}

// The end of the connection is the end of the registration, with OpLeave or without.
func TestClientDies(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT}
		web := mustJoin(t, o, n, "web", port(1))
		db := mustJoin(t, o, n, "db", port(2))
		die(web) // what the kernel does for a killed process
		lab.Eventually(t, 2*time.Second, "port of the dead VM gone", func() bool {
			_, err := lab.Try("ip link show qnweb0")
			return err != nil
		})
		lab.Sh(t, "ip link show qndb0; ip link show qn-dev")
		die(db)
		lab.Eventually(t, 2*time.Second, "network gone", func() bool {
			_, err := os.Stat(o.RunDir)
			return os.IsNotExist(err)
		})
	})
}

func die(r *Registration) {
	r.Forsake()
	for _, p := range r.Ports() {
		p.File.Close()
	}
	r.HangUp()
}

// killBoth does to the host what a SIGKILL of keeper, supervisor and QEMU does.
func killBoth(t *testing.T, r *Registration) {
	t.Helper()
	killWith(t, r, r.Info().KeeperPID)
}

// killWith is killBoth with a keeper that is not the registration's first.
func killWith(t *testing.T, r *Registration, keeper int) {
	t.Helper()
	r.Forsake()
	kill(t, keeper)
	<-r.Done()
	for _, p := range r.Ports() {
		p.File.Close()
		lab.Eventually(t, 2*time.Second, "tap gone", func() bool {
			_, err := lab.Try("ip link show " + p.Tap)
			return err != nil
		})
	}
}

// kill returns when nothing of the process is left: the kernel closes a dead process's
// files, and with them its locks, one after the other.
func kill(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatalf("kill process %d: %v", pid, err)
	}
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err == nil {
			return
		}
	}
}

func TestCollectAfterKeeperWasKilled(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.Private, profiles.NAT} {
		t.Run(string(mode), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				r := mustJoin(t, o, Network{Name: "dev", Mode: mode}, "web", port(1))
				if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 0 {
					t.Errorf("collected a living network: %v, %v", removed, err)
				}
				killBoth(t, r)
				lab.Sh(t, "nft list ruleset | grep -q qnet_dev") // no moment without rules
				removed, err := Collect(t.Context(), o)
				if err != nil || len(removed) != 1 {
					t.Errorf("got %v, %v", removed, err)
				}
			})
		})
	}
}

// The next keeper of the network finds what a killed one left, and undoes it first.
func TestJoinAfterKeeperWasKilled(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT}
		r := mustJoin(t, o, n, "web", port(1))
		prefix := r.Info().Prefix
		killBoth(t, r)
		again := mustJoin(t, o, n, "web", port(1))
		if again.Info().Prefix != prefix {
			t.Errorf("got %s, want %s as before", again.Info().Prefix, prefix)
		}
		mustLeave(t, again)
	})
}

func TestUplinkFoundWhileRunning(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		if !lab.Pings("vm1", "203.0.113.1") {
			t.Error("no way out before the change")
		}
		lab.Sh(t, `
ip link add eth1 type veth peer name lan1 netns inet
ip -n inet link set lan1 addrgenmode none up
ip -n inet addr add 198.51.100.1/24 dev lan1
ip link set eth1 addrgenmode none up
ip addr add 198.51.100.10/24 dev eth1
ip route replace default via 198.51.100.1
ip route del 192.0.2.0/24 dev eth0`)
		lab.Eventually(t, 3*time.Second, "guest out by the new uplink", func() bool { return lab.Pings("vm1", "203.0.113.1") })
		lab.Sh(t, `
ip route add 192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.10
ip route replace default via 192.0.2.1
ip netns del vm1`)
		mustLeave(t, r)
		if got := strings.TrimSpace(lab.Sh(t, "cat /proc/sys/net/ipv4/conf/eth1/forwarding")); got != "0" {
			t.Errorf("forwarding of the new uplink: got %s, want 0", got)
		}
		lab.Sh(t, "ip link del eth1")
	})
}
