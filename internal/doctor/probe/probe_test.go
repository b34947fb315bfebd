package probe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// On a host without faults every step passes within 3 s, and the host is as it was.
func TestAllIsWell(t *testing.T) {
	want := map[profiles.Mode]string{
		profiles.Private:  "another guest, the host is hidden",
		profiles.HostOnly: "lease, gateway ARP, gateway ping, another guest, name host.qnet, borrowed address, name outside, the outside is closed",
		profiles.NAT: "lease, gateway ARP, gateway ping, another guest, name host.qnet, borrowed address, name outside, connect, ping outside, " +
			"full-size packet",
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			inLab(t, func(l *testHost) {
				before := lab.Snapshot(t, l.o.RunDir)
				r := l.probe(keeper.Network{Mode: mode})
				before.Check(t)
				if got := names(r, Pass); got != want[mode] || len(r.Steps) != strings.Count(got, ",")+1 {
					t.Errorf("passed: %s\nwant: %s", got, want[mode])
				}
				if r.Took > 3*time.Second {
					t.Errorf("took %s", r.Took)
				}
			})
		})
	}
}

// On a network with IPv6 that is tried, too; a filter that drops it is where the cause says to look.
func TestIPv6(t *testing.T) {
	inLab(t, func(l *testHost) {
		const all = "IPv6 router, IPv6 lease, IPv6 gateway ping, IPv6 name host.qnet"
		before := lab.Snapshot(t, l.o.RunDir)
		r := l.probe(keeper.Network{Mode: profiles.HostOnly, IPv6: true})
		before.Check(t)
		if got := names(r, Pass); !strings.Contains(got, all) || r.Failed() {
			t.Errorf("passed: %s", got)
		}
		lab.Sh(t, nftables(`table ip6 f { chain i { type filter hook input priority 0; icmpv6 type { echo-request, nd-neighbor-solicit } drop; }; }`))
		s := stepOf(l.probe(keeper.Network{Mode: profiles.HostOnly, IPv6: true}), "IPv6 gateway ping")
		if s.Outcome != Fail || !strings.Contains(s.Cause, "nft list ruleset") {
			t.Errorf("%+v", s)
		}
	})
}

// A macvtap on the LAN is probed as a bridge is.
func TestMacvtap(t *testing.T) {
	lab.Require(t, lab.Root)
	inLab(t, func(l *testHost) {
		lab.FreeNIC(l, filepath.Dir(l.o.RunDir))
		before := lab.Snapshot(t, l.o.RunDir)
		r := l.probe(keeper.Network{Mode: profiles.Bridge, Macvtap: true, Uplink: "lan0"})
		before.Check(t)
		if got := names(r, Pass); got != "lease, gateway ARP, gateway ping, name outside, connect, ping outside, full-size packet" {
			t.Errorf("passed: %s", got)
		}
	})
}

// On a LAN the probe takes a lease from the server of the LAN, and gives it back.
func TestBridge(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.FreeNIC(l, filepath.Dir(l.o.RunDir))
		before := lab.Snapshot(t, l.o.RunDir)
		r := l.probe(keeper.Network{Mode: profiles.Bridge, Uplink: "lan0"})
		before.Check(t)
		if got := names(r, Pass); got != "lease, gateway ARP, gateway ping, name outside, connect, ping outside, full-size packet" {
			t.Errorf("passed: %s", got)
		}
		leases := filepath.Join(filepath.Dir(l.o.RunDir), "leases")
		lab.Eventually(t, 2*time.Second, "the lease is given back", func() bool {
			b, err := os.ReadFile(leases)
			return err == nil && !strings.Contains(string(b), r.MAC)
		})
	})
}

// Without a target the probe tries the gateway and the resolver of the host. That these
// are silent to every host is no fault of this one.
func TestTargetFound(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.found = true
		if s := stepOf(l.probe(keeper.Network{Mode: profiles.NAT}), "connect"); s.Outcome != Pass {
			t.Errorf("%+v", s)
		}
		lab.Sh(t, "ip netns exec inet "+nftables(`table inet f { chain i { type filter hook input priority 0; meta l4proto { tcp, icmp } drop; }; }`))
		r := l.probe(keeper.Network{Mode: profiles.NAT})
		if got := names(r, Skip); r.Failed() || got != "connect, ping outside, full-size packet" {
			t.Errorf("skipped: %s", got)
		}
	})
}

// A router on the LAN that replies to no ping is no fault.
func TestSilentRouter(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.FreeNIC(l, filepath.Dir(l.o.RunDir))
		lab.Sh(t, "ip netns exec lan sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
		l.found = true
		r := l.probe(keeper.Network{Mode: profiles.Bridge, Uplink: "lan0"})
		if got := names(r, Warn); r.Failed() || got != "gateway ping" {
			t.Errorf("warned: %s", got)
		}
	})
}

// A smaller MTU that an ICMP error tells is no fault: guests take it up.
func TestPathMTUTold(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "ip link set eth0 mtu 1400")
		s := stepOf(l.probe(keeper.Network{Mode: profiles.NAT}), "full-size packet")
		if s.Outcome != Pass || !strings.Contains(s.Detail, "fragmentation needed, mtu 1400") {
			t.Errorf("%+v", s)
		}
	})
}

// A network on which a VM runs is probed like any other, and the VM stays.
func TestBesideAVM(t *testing.T) {
	inLab(t, func(l *testHost) {
		n := keeper.Network{Name: "dev", Mode: profiles.NAT}
		vm, err := guest.Join(t.Context(), guest.Place{Keeper: l.o, Network: n, VM: "web", NICs: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vm.Guests[0].DHCP(t.Context(), keeperTime); err != nil {
			t.Fatal(err)
		}
		if r := l.probe(n); r.Failed() || r.Bridge != vm.Info().Bridge {
			t.Errorf("%+v", r)
		}
		web := vm.Guests[0]
		if _, err := web.Ping(t.Context(), web.Lease().Gateway, 84, guest.ReplyTime); err != nil {
			t.Errorf("after the probe: %v", err)
		}
		if err := vm.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A probe that is killed at any moment leaves nothing.
func TestKilled(t *testing.T) {
	if os.Getenv("QNET_PROBE_FOR_EVER") != "" {
		for {
			l := &testHost{T: t, o: keeper.Options{RunDir: os.Getenv("QNET_RUN"), StateDir: os.Getenv("QNET_STATE"), Exe: []string{"/proc/self/exe", "keeper"}}}
			l.probe(keeper.Network{Mode: profiles.NAT})
		}
	}
	inLab(t, func(l *testHost) {
		before, diff := lab.Snapshot(t), ""
		defer func() {
			if t.Failed() {
				t.Log(diff)
			}
		}()
		for _, after := range []int{60, 120, 200, 400} {
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestKilled$")
			cmd.Env = append(os.Environ(), "QNET_PROBE_FOR_EVER=1", "QNET_RUN="+l.o.RunDir, "QNET_STATE="+l.o.StateDir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(after) * time.Millisecond)
			cmd.Process.Kill()
			cmd.Wait()
			// The keeper undoes all but the file of a lock, which qnet gc removes.
			networks := filepath.Join(l.o.RunDir, "networks")
			lab.Eventually(t, 20*time.Second, "nothing is left", func() bool {
				left, _ := os.ReadDir(networks)
				diff = lab.Diff(before, lab.Snapshot(t)) + fmt.Sprint(left)
				return diff == "[]"
			})
		}
	})
}
