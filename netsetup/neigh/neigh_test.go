package neigh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

func asks(t *testing.T, l Link, mac net.HardwareAddr, source, target string) net.HardwareAddr {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	from := Place{MAC: mac}
	if source != "" {
		from.Addr = netip.MustParseAddr(source)
	}
	got, err := Resolve(ctx, l, from, netip.MustParseAddr(target))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The gateway answers any MAC, by ARP and by neighbour discovery, with an address and
// without one. Behind port security it answers the NIC's own MAC only.
func TestResolve(t *testing.T) {
	lab.Require(t, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, lab.LANOptions{Static: true})
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		gateway, err := net.ParseMAC(strings.TrimSpace(lab.Sh(t, "ip netns exec gateway cat /sys/class/net/eth0/address")))
		if err != nil {
			t.Fatal(err)
		}
		guest := net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
		for _, c := range []struct {
			mac            net.HardwareAddr
			source, target string
			want, secured  bool
		}{
			{nic.HardwareAddr, "", lab.LANGateway, true, true},
			{nic.HardwareAddr, lab.LANHost, lab.LANGateway, true, true},
			{guest, "", lab.LANGateway, true, false},
			{guest, "", lab.LANGateway6, true, false},
			{nic.HardwareAddr, "", lab.LANGateway6, true, true},
			{guest, "", "192.0.2.99", false, false},
			{nic.HardwareAddr, "", lab.LANHost, false, false}, // the host itself
		} {
			if got := asks(t, On(nic.Index), c.mac, c.source, c.target); (got.String() == gateway.String()) != c.want || !c.want && got != nil {
				t.Errorf("%+v: %s answers", c, got)
			}
		}
		lan.PortSecurity(nic.HardwareAddr.String())
		if got := asks(t, On(nic.Index), nic.HardwareAddr, "", lab.LANGateway); got == nil {
			t.Error("port security hides the gateway from the NIC itself")
		}
		if got := asks(t, On(nic.Index), guest, "", lab.LANGateway); got != nil {
			t.Errorf("%s answers a MAC that the switch drops", got)
		}
	})
}

// An announcement puts an address's new MAC into a neighbour's table; a solicitation
// reaches the routers.
func TestAnnounce(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{Static: true})
		lab.Sh(t, "ip -n outside neigh replace 192.0.2.10 lladdr 02:00:00:00:00:66 dev eth0 nud stale; ip -n outside neigh replace 2001:db8:2::10 lladdr 02:00:00:00:00:66 dev eth0 nud stale")
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		var list []Place
		for _, a := range []string{lab.LANHost, "2001:db8:2::10"} {
			list = append(list, Place{MAC: nic.HardwareAddr, Addr: netip.MustParseAddr(a)})
		}
		solicitations := func() string {
			return lab.Sh(t, "ip netns exec gateway nft list table netdev rs | grep -c 'packets 1 ' || true")
		}
		lab.Sh(t, `ip netns exec gateway nft -f - <<'EOF'
table netdev rs {
	chain c {
		type filter hook ingress device "eth0" priority 0; policy accept;
		icmpv6 type nd-router-solicit counter
	}
}
EOF`)
		if err := Announce(nic.Index, list); err != nil {
			t.Fatal(err)
		}
		if err := Solicit(nic.Index, Place{MAC: nic.HardwareAddr, Addr: netip.MustParseAddr("fe80::10")}); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 2*time.Second, "the new MAC in the neighbour's table, and the solicitation at the gateway", func() bool {
			out := lab.Sh(t, "ip -n outside neigh show")
			return strings.Count(out, nic.HardwareAddr.String()) == 2 && strings.TrimSpace(solicitations()) == "1"
		})
	})
}

// Ask asks for several addresses at once, and returns as soon as all have answered.
func TestAsk(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{Static: true})
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		gateway, err := net.ParseMAC(strings.TrimSpace(lab.Sh(t, "ip netns exec gateway cat /sys/class/net/eth0/address")))
		if err != nil {
			t.Fatal(err)
		}
		ask := func(mac net.HardwareAddr, within time.Duration) []Place {
			t.Helper()
			var queries []Query
			for _, pair := range [][2]string{{lab.LANHost, lab.LANGateway}, {"2001:db8:2::10", lab.LANGateway6}} {
				queries = append(queries, Query{Place{nic.HardwareAddr, netip.MustParseAddr(pair[0])}, netip.MustParseAddr(pair[1]), mac})
			}
			got, err := Ask(t.Context(), On(nic.Index), queries, 200*time.Millisecond, within)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		began := time.Now()
		for _, mac := range []net.HardwareAddr{nil, gateway} {
			got := ask(mac, 10*time.Second)
			if len(got) != 2 || got[0].MAC.String() != gateway.String() || got[1].MAC.String() != gateway.String() {
				t.Errorf("got %v, want the gateway %s twice", got, gateway)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("all have answered, and Ask waits on: %v", took)
		}
		if got := ask(net.HardwareAddr{2, 0, 0, 0, 0, 0x66}, 500*time.Millisecond); len(got) != 2 {
			t.Errorf("another MAC than the one wanted: got %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Ask(ctx, On(nic.Index), []Query{{Target: netip.MustParseAddr("192.0.2.99")}}, time.Second, time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("the context has ended: got %v", err)
		}
	})
}
