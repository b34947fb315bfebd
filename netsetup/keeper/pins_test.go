package keeper_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// vpn is a link that swallows what it gets, as a VPN's does for addresses that no host
// has at the other end.
const vpn = "ip link add vpn0 type veth peer name vpn1; ip link set vpn0 addrgenmode none up; ip link set vpn1 addrgenmode none up; ip addr add 10.200.0.1/32 dev vpn0\n"

// pinned lists what qnet added for guests whose addresses were taken.
func pinned(t *testing.T) string {
	t.Helper()
	return lab.Sh(t, "ip route show table all proto 113; ip rule show | grep -w 'proto 113' || true")
}

// A VM stays reachable, from the host and for replies from outside, while another
// program's routes or rules take its address. Its pin goes when they do.
func TestAddressesTaken(t *testing.T) {
	for name, c := range map[string]struct {
		take, giveBack string
		by             string // what the keeper says
		rule           string // of ours
	}{
		"prefix": {"ip route prepend 10.77.0.0/24 dev vpn0", "ip route del 10.77.0.0/24 dev vpn0", "route 10.77.0.0/24 dev vpn0", ""},
		"halves": {
			"ip route add 10.77.0.0/25 dev vpn0; ip route add 10.77.0.128/25 dev vpn0",
			"ip route del 10.77.0.0/25 dev vpn0; ip route del 10.77.0.128/25 dev vpn0", "dev vpn0", "",
		},
		"host route": {"ip route add GUEST/32 dev vpn0", "ip route del GUEST/32 dev vpn0", "/32 dev vpn0", ""},
		"blackhole":  {"ip route add blackhole GUEST/31", "ip route del blackhole GUEST/31", "leads nowhere", ""},
		"rule": {
			"ip route add 10.77.0.0/16 dev vpn0 table 100; ip rule add priority 50 to 10.0.0.0/8 lookup 100",
			"ip rule del priority 50; ip route flush table 100", "route 10.77.0.0/16 dev vpn0 of table 100, to which rule 50 leads", "49:",
		},
		"rule of the first priority": {
			"ip route add default dev vpn0 table 100; ip rule add priority 1 lookup 100",
			"ip rule del priority 1; ip route flush table 100", "table 100, to which rule 1 leads", "0:",
		},
		"rule for what has no mark": {
			"ip route add default dev vpn0 table 51820; ip rule add not fwmark 51820 lookup 51820",
			"ip rule del not fwmark 51820 lookup 51820; ip route flush table 51820", "table 51820", "32764:",
		},
		"rules and routes": {
			"ip route add 10.77.0.0/25 dev vpn0; ip route add default dev vpn0 table 100; ip rule add priority 900 from all to 10.77.0.0/24 lookup 100; ip rule add priority 70 from 10.77.0.1 lookup 100",
			"ip route del 10.77.0.0/25; ip rule del priority 900; ip rule del priority 70; ip route flush table 100", "to which rule 70 leads", "69:",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				told := &notes{}
				o.Note = told.add
				r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				guest := r.Ports()[0].Address.String()
				lab.Guest(t, "vm1", "qn-dev", guest+"/24", "10.77.0.1")
				reached := func() bool {
					// With a default route of its own the VPN is the guest's way out, too.
					return lab.Pings("", guest) && (strings.Contains(c.take, "default") || lab.Pings("vm1", "203.0.113.1"))
				}
				lab.Eventually(t, 5*time.Second, "the guest before", reached)
				if got := pinned(t); got != "" {
					t.Fatalf("pinned without need:\n%s", got)
				}
				fill := strings.NewReplacer("GUEST/31", guest[:len(guest)-1]+"0/29", "GUEST", guest)
				lab.Sh(t, vpn)
				pings := lab.PingFrom(t, "vm1", "10.77.0.1") // the answers take the route
				lab.Sh(t, fill.Replace(c.take))
				lab.Eventually(t, 5*time.Second, "the guest, taken", reached)
				if lost := pings(); lost.Gap > 2*time.Second {
					t.Errorf("pings: %s", lost)
				} else {
					t.Logf("pings: %s", lost)
				}
				if got := pinned(t); !strings.Contains(got, guest) || strings.Contains(got, "lookup main") != (c.rule != "") || !strings.Contains(got, c.rule) {
					t.Errorf("pinned:\n%s\nwant rule %q", got, c.rule)
				}
				lab.Eventually(t, 8*time.Second, "a word about "+c.by, func() bool { return told.count(c.by) == 1 })
				lab.Sh(t, fill.Replace(c.giveBack))
				lab.Eventually(t, 5*time.Second, "no pins", func() bool { return pinned(t) == "" })
				lab.Eventually(t, 8*time.Second, "a word that all is as before", func() bool { return told.count("nothing takes addresses") == 1 })
				if !reached() {
					t.Error("the guest is lost after it was unpinned")
				}
				// What the other program takes at the end is its own affair.
				lab.Sh(t, fill.Replace(c.take))
				lab.Eventually(t, 5*time.Second, "the guest, taken again", reached)
				lab.Sh(t, "ip netns del vm1")
				mustLeave(t, r)
				if got := pinned(t); got != "" {
					t.Errorf("left:\n%s", got)
				}
				lab.Sh(t, fill.Replace(c.giveBack)+"; ip link del vpn0")
			})
		})
	}
}

// The rules of wg-quick(8) prefer routes of the main table but the default one: no pins
// are needed.
func TestNothingTaken(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, vpn+`
ip route add default dev vpn0 table 51820
ip rule add not fwmark 51820 lookup 51820
ip rule add lookup main suppress_prefixlength 0
ip route add 10.0.0.0/8 dev vpn0
ip route add 10.78.0.0/24 dev vpn0`)
		lab.Eventually(t, 5*time.Second, "no pins", func() bool { return pinned(t) == "" })
		mustLeave(t, r)
		lab.Sh(t, "ip rule del not fwmark 51820 lookup 51820; ip rule del lookup main suppress_prefixlength 0; ip link del vpn0")
	})
}

// The keeper pins only VMs whose addresses are taken: a new VM when it joins, and no VM
// that has left.
func TestTakenOneByOne(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.HostOnly, Subnet: subnet}
		at := func(last byte, address string) []PortRequest {
			p := port(last)
			p[0].Address = netip.MustParseAddr(address)
			return p
		}
		low := mustJoin(t, o, n, "low", at(1, "10.77.0.10"))
		high := mustJoin(t, o, n, "high", at(2, "10.77.0.200"))
		guests := func(want ...string) {
			t.Helper()
			lab.Eventually(t, 5*time.Second, fmt.Sprintf("host routes of %v", want), func() bool {
				var got []string
				for line := range strings.Lines(pinned(t)) {
					got = append(got, strings.Fields(line)[0])
				}
				return slices.Equal(got, want)
			})
		}
		lab.Sh(t, vpn+"ip route add 10.77.0.128/25 dev vpn0")
		guests("10.77.0.200")
		third := mustJoin(t, o, n, "third", at(3, "10.77.0.201"))
		guests("10.77.0.200", "10.77.0.201")
		// Another program puts its own before: ours goes to the front again.
		lab.Sh(t, "ip route prepend 10.77.0.201/32 dev vpn0")
		lab.Eventually(t, 5*time.Second, "our route in front", func() bool {
			return strings.Contains(lab.Sh(t, "ip route get 10.77.0.201"), "dev qn-dev")
		})
		mustLeave(t, third)
		guests("10.77.0.200")

		// A keeper that dies leaves them to the next, and gc takes them away.
		lab.Sh(t, "ip route add default dev vpn0 table 100; ip rule add priority 50 lookup 100")
		lab.Eventually(t, 5*time.Second, "the rule", func() bool { return strings.Contains(pinned(t), "49:") })
		guests("10.77.0.10", "10.77.0.200", "49:")
		unix.Kill(low.Info().KeeperPID, unix.SIGKILL)
		second := 0
		lab.Eventually(t, 5*time.Second, "the next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			next := err == nil && len(infos) == 1 && infos[0].KeeperPID != low.Info().KeeperPID && len(infos[0].VMs) == 2
			if next {
				second = infos[0].KeeperPID
			}
			return next
		})
		guests("10.77.0.10", "10.77.0.200", "49:")
		lab.Sh(t, "ip rule del priority 50")
		guests("10.77.0.200")
		lab.Sh(t, "ip rule add priority 50 lookup 100")
		guests("10.77.0.10", "10.77.0.200", "49:")
		mustLeave(t, high)
		killWith(t, low, second)
		if _, err := Collect(t.Context(), o); err != nil {
			t.Error(err)
		}
		if got := pinned(t); got != "" {
			t.Errorf("left:\n%s", got)
		}
		lab.Sh(t, "ip rule del priority 50; ip link del vpn0")
	})
}
