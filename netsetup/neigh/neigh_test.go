package neigh

import (
	"context"
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
	got, err := Ask(ctx, l, from, netip.MustParseAddr(target))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The gateway answers whoever asks, by ARP and ND, with an address and without;
// behind port security only the NIC's own MAC. Nobody answers for what is not there.
func TestAsk(t *testing.T) {
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
			{nic.HardwareAddr, "", lab.LANHost, false, false}, // that is us
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

// An announcement puts an old address's new place into a neighbour's table; a
// solicitation reaches the routers.
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
		lab.Eventually(t, 2*time.Second, "the new place known, and routers asked", func() bool {
			out := lab.Sh(t, "ip -n outside neigh show")
			return strings.Count(out, nic.HardwareAddr.String()) == 2 && strings.TrimSpace(solicitations()) == "1"
		})
	})
}
