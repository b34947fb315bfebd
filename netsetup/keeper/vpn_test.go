package keeper_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/profiles"
)

// Guests of a nat network follow the host into a VPN and back, and their TCP and
// their full-size packets get along with its MTU (F39, F40, F41, F42).
func TestFollowVPN(t *testing.T) {
	for _, name := range programs.VPNs() {
		t.Run(name, func(t *testing.T) {
			if name != "policy rules" {
				coexist(t)
			}
			lab.Require(t, lab.Tun)
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				o := labOptions(t)
				told := &notes{}
				o.Note = told.add
				n := Network{Name: "dev", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.77.0.0/24")}
				host := lab.Snapshot(t, o.RunDir)
				r := mustJoin(t, o, n, "web", port(1))
				guests(t, n)
				vpn := programs.VPN(name)
				for round := range 2 {
					vpn.Start(t)
					lab.Eventually(t, patience*2*time.Second, "the guest in the tunnel", func() bool {
						return programs.ThroughTunnel(t, "vm1") == nil
					})
					mustPass(t, n, "in the tunnel")
					if round == 0 {
						fullSize(t)
						upload(t)
						if err := vpn.Works(t); err != nil {
							t.Error(err)
						}
					}
					programs.StopVPN(t, name)
					lab.Eventually(t, patience*2*time.Second, "the guest back on the LAN", func() bool {
						return lab.Pings("vm1", "203.0.113.1")
					})
				}
				lab.Sh(t, removeGuests)
				mustLeave(t, r)
				host.Check(t)
				if told.count("") > 0 {
					t.Errorf("there was nothing to tell: %q", told.texts)
				}

				// The VPN first.
				vpn.Start(t)
				state := vpn.State(t)
				r = mustJoin(t, o, n, "web", port(1))
				guests(t, n)
				mustPass(t, n, "started in the tunnel")
				if err := programs.ThroughTunnel(t, "vm1"); err != nil {
					t.Error(err)
				}
				vpn.Reload(t)
				mustPass(t, n, "reloaded")
				lab.Sh(t, removeGuests)
				mustLeave(t, r)
				sameState(t, "afterwards", state, vpn.State(t))
				if err := vpn.Works(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// fullSize checks that a packet that may not be fragmented and does not fit gets an ICMP
// error.
func fullSize(t *testing.T) {
	t.Helper()
	out, err := lab.Try("ip netns exec vm1 ping -n -c 1 -W 1 -M do -s 1472 203.0.113.1")
	if err == nil || !strings.Contains(out, "mtu = 1420") {
		t.Errorf("a packet of 1500 bytes: %v\n%s", err, out)
	}
	lab.Sh(t, "ip netns exec vm1 ping -n -c 1 -W 1 -M do -s 1392 203.0.113.1")
}

// upload checks that TCP gets through although no message tells the guest the smaller
// MTU.
func upload(t *testing.T) {
	t.Helper()
	lab.Sh(t, `ip -n vm1 route flush cache
ip netns exec vm1 nft 'table ip deaf { chain in { type filter hook input priority 0; icmp type destination-unreachable drop; }; }'`)
	out, err := lab.Try(`ip netns exec inet timeout 9 busybox nc -l -p 9000 > /dev/null & sleep 0.3
head -c 1000000 /dev/zero | ip netns exec vm1 timeout 5 busybox nc 203.0.113.1 9000; wait`)
	if err != nil {
		t.Errorf("upload: %v\n%s", err, out)
	}
	lab.Sh(t, "ip netns exec vm1 nft delete table ip deaf")
}
