package keeper_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/profiles"
)

// routingDaemon gives the host manyRoutes routes by eth0, and changes one 100 times a second until
// the test's end.
func routingDaemon(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "routes")
	var script strings.Builder
	for i := range manyRoutes {
		fmt.Fprintf(&script, "route add 20.%d.%d.0/24 via 192.0.2.1 proto bird\n", i>>8, i&0xff)
	}
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, "ip -batch "+file)
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	header := []byte{unix.AF_INET, 24, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BIRD, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0, 0, 0, 0}
	route := rtnl.Route{Message: rtnl.Append(header,
		rtnl.Attr{Type: unix.RTA_DST, Value: []byte{21, 9, 9, 0}}, rtnl.Uint32(unix.RTA_OIF, uint32(eth0.Index)))}
	ctx, cancel := context.WithCancel(t.Context())
	var changes sync.WaitGroup
	changes.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if err := rtnl.Send(rtnl.ReplaceRoute("eth0", route), rtnl.DelRoute("eth0", route)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		changes.Wait()
		lab.Sh(t, "ip route flush proto bird")
	})
}

// cpuTime is what a process has used (proc(5), stat), in steps of 10 ms.
func cpuTime(t *testing.T, pid int) (used time.Duration) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	for _, word := range strings.Fields(rest)[11:13] { // utime, stime
		ticks, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		used += time.Duration(ticks) * 10 * time.Millisecond
	}
	return used
}

// On a host that speaks BGP the keeper costs little, and still repairs within 2 s what
// matters.
func TestHostOfManyRoutes(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		t.Run("churn", func(t *testing.T) {
			routingDaemon(t)
			r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
			keeper, guest := r.Info().KeeperPID, r.Ports()[0].Address.String()
			lab.Sh(t, vpn+`
sysctl -qw net.ipv4.conf.vpn0.forwarding=0
ip link add eth1 type veth peer name lan1; ip link set lan1 up; ip link set eth1 up; sysctl -qw net.ipv4.conf.eth1.forwarding=0`)
			const window = 3 * time.Second
			before := cpuTime(t, keeper)
			<-time.After(window) // the figure is about a time
			// Under the race detector; where each change is looked at, it is more than the window.
			if used := cpuTime(t, keeper) - before; used > window/5 {
				t.Errorf("the keeper used %s of CPU in %s", used, window)
			} else {
				t.Logf("the keeper used %s of CPU in %s", used, window)
			}
			for _, c := range []struct{ name, change, holds string }{
				{"an uplink appears", "ip route add default dev eth1 metric 500", "sysctl -n net.ipv4.conf.eth1.forwarding | grep -q 1"},
				{"a VPN takes all addresses", "ip route add 0.0.0.0/1 dev vpn0; ip route add 128.0.0.0/1 dev vpn0", "sysctl -n net.ipv4.conf.vpn0.forwarding | grep -q 1"},
				{"a VPN takes the prefix", "ip route prepend 10.77.0.0/24 dev vpn0", "ip route get " + guest + " | grep -q 'dev qn-dev'"},
				{"a VPN gives it back", "ip route del 10.77.0.0/24 dev vpn0", "! ip route show proto 113 | grep ."},
				{"the bridge is down", "ip link set qn-dev down", "ip -br link show qn-dev up | grep -q qn-dev"},
				{"forwarding is off", "sysctl -qw net.ipv4.conf.eth1.forwarding=0", "sysctl -n net.ipv4.conf.eth1.forwarding | grep -q 1"},
			} {
				lab.Sh(t, c.change)
				lab.Eventually(t, 2*time.Second, c.name+", repaired", func() bool {
					_, err := lab.Try(c.holds)
					return err == nil
				})
			}
			mustLeave(t, r)
			lab.Sh(t, "ip link del vpn0; ip link del eth1")
		})
	})
}
