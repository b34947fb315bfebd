package host

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func TestResolvers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions edns0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := resolvers(path); !slices.Equal(got, []netip.Addr{addr("192.0.2.53"), addr("fe80::1")}) {
		t.Errorf("got %v", got)
	}
	if got := resolvers(path + ".none"); len(got) != 0 {
		t.Errorf("of no file: %v", got)
	}
}

func TestObserveNetworkWithoutRights(t *testing.T) {
	f, err := ObserveNetwork()
	if err != nil {
		t.Fatal(err)
	}
	lo, ok := f.Link("lo")
	if !ok || !lo.Loopback || lo.Index == 0 || lo.Ethernet {
		t.Errorf("the loopback is %+v", lo)
	}
	if v := f.Sysctls[IPForward]; v != "0" && v != "1" {
		t.Errorf("ip_forward is %q", v)
	}
	if len(f.Rules) == 0 {
		t.Error("there is no policy rule")
	}
	if l, ok, err := ReadLink("lo"); err != nil || !ok || l.Index != lo.Index {
		t.Errorf("lo read alone: %+v, %t, %v", l, ok, err)
	}
	if _, ok, err := ReadLink("qn-none"); err != nil || ok {
		t.Errorf("no link: %t, %v", ok, err)
	}
	if _, err := fib.Read(prefix("0.0.0.0/0")); err != nil {
		t.Error(err)
	}
	if _, err := ReadGateways(lo.Index); err != nil {
		t.Error(err)
	}
	addrs, err := ReadAddrs(lo.Index)
	if err != nil || lo.Up && !slices.Equal(addrs, lo.Addresses) {
		t.Errorf("addresses of lo: %v, %v; want %v", addrs, err, lo.Addresses)
	}
	if id, err := BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
	if ns, err := NetNS(); err != nil || !strings.HasPrefix(ns, "net:[") {
		t.Errorf("network namespace %q, %v", ns, err)
	}
	if BootSeconds() <= 0 {
		t.Errorf("%d s since boot", BootSeconds())
	}
}

func TestReadHoldingsWithoutRights(t *testing.T) {
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, _, err := ReadLink("lo")
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHoldings(c, lo)
	if err != nil || h.Index != lo.Index || h.Since == 0 {
		t.Errorf("got %+v, %v", h, err)
	}
	if h, err := ReadHoldings(c, Link{}); err != nil || h.Carries() {
		t.Errorf("of no link: %+v, %v", h, err)
	}
}

// A NIC that the host uses is observed with all that a move needs, and with its gateway's
// answer.
func TestObserveLAN(t *testing.T) {
	lab.Require(t, lab.Program("tc"))
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{Static: true})
		lab.Sh(t, "sysctl -qw net.ipv4.conf.eth0.arp_notify=1")
		original := map[string]string{}
		query := Query{LAN: true, Ask: true, Peer: addr(lab.LANOutside), Original: func(sysctls map[string]string) { maps.Copy(original, sysctls) }}
		f, err := Observe(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		got := JoinNeighbors(f.NIC.Answers)
		if !f.NIC.Asked || !strings.Contains(got, lab.LANGateway+" (") || !strings.Contains(got, lab.LANOutside+" (") || f.NIC.Peer != query.Peer {
			t.Errorf("answers %s, peer %s", got, f.NIC.Peer)
		}
		if _, ok := original[ForwardingKey("eth0")]; !ok {
			t.Errorf("Original got %v", original)
		}
		if !slices.Contains(f.NIC.Sysctls, LinkSysctl{Dir: "net/ipv4/conf", Name: "arp_notify", Value: "1"}) || f.NIC.RPFilter == "" || f.NIC.GenMode == "" || !f.NIC.Held.Lasts() {
			t.Errorf("the NIC is %+v", f.NIC)
		}
		lab.Sh(t, "tc qdisc add dev eth0 clsact")
		eth0, _, err := ReadLink("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := hooks(eth0); err != nil || !slices.Equal(got, []string{"the tc qdisc clsact"}) {
			t.Errorf("hooks %q, %v", got, err)
		}
		if got, err := ReadGateways(eth0.Index); err != nil || !slices.Equal(got, []netip.Addr{addr(lab.LANGateway)}) {
			t.Errorf("gateways %v, %v", got, err)
		}
		none := []Neighbor{{Addr: addr("192.0.2.99")}}
		if got, err := Ask(t.Context(), eth0, none, 300*time.Millisecond); err != nil || len(got) != 0 {
			t.Errorf("without such a neighbor: %v, %v", got, err)
		}
	})
}

// The kernel's own answers: a route or none, a neighbor that does not answer, a port of a
// bridge that forwards.
func TestKernelAnswers(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{Static: true})
		if err := CheckRoute(addr(lab.LANInternet), addr(lab.LANOutside), "eth0"); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("on a host that does not forward: %v", err)
		}
		lab.Sh(t, "sysctl -qw net.ipv4.conf.eth0.forwarding=1; ip route add blackhole 198.51.100.0/24")
		if err := CheckRoute(addr(lab.LANInternet), addr(lab.LANOutside), "eth0"); err != nil {
			t.Error(err)
		}
		if err := CheckRoute(addr("198.51.100.1"), addr(lab.LANOutside), "eth0"); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a blackhole route: %v", err)
		}
		lab.Try("ping -c1 -W1 192.0.2.99")
		lab.Eventually(t, 5*time.Second, "a failed neighbor", func() bool { return NeighborFailed(addr("192.0.2.99")) })
		if NeighborFailed(addr(lab.LANGateway)) {
			t.Error("the gateway has failed")
		}
		lab.Sh(t, `ip link add br0 type bridge forward_delay 200 stp_state 1; ip link add v0 type veth peer name v1
ip link set v0 master br0; ip link set v1 up; ip link set v0 up; ip link set br0 up`)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := AwaitForwarding(ctx, "v0", "br0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the forward delay: %v", err)
		}
		if err := AwaitForwarding(t.Context(), "v0", "br0"); err != nil {
			t.Error(err)
		}
		if err := AwaitForwarding(t.Context(), "eth0", "br0"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of no port: %v", err)
		}
		br0, _, err := ReadLink("br0")
		if err != nil || !br0.STP || br0.Kind != "bridge" || forwardDelay("br0") != 2*time.Second {
			t.Errorf("the bridge is %+v, forward delay %s, %v", br0, forwardDelay("br0"), err)
		}
	})
}

// A reader tells routes that lead nowhere from routes by links, in every table.
func TestRoutesToNowhere(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, `ip link add d0 type bridge; ip link set d0 up; ip route add 10.1.0.0/16 dev d0
			ip route add unreachable 10.2.0.0/16; ip route add blackhole 10.3.0.0/16 table 7
			ip route add prohibit 10.4.0.0/16 metric 9; ip route add throw 10.5.0.0/16 table 7`)
		f, err := ObserveNetwork()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, r := range f.Routes {
			if strings.HasPrefix(r.Dst.String(), "10.") {
				got[r.Dst.String()] = r.Nowhere
			}
		}
		want := map[string]bool{"10.1.0.0/16": false, "10.2.0.0/16": true, "10.3.0.0/16": true, "10.4.0.0/16": true, "10.5.0.0/16": true}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
