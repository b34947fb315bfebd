package keeper_test

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// crossPort is the port of the packets that cross sends.
const crossPort = "34599"

// counting makes a namespace count the packets of cross that reach it, from zero.
const counting = `nft -f - <<'EOF'
table inet arrived
delete table inet arrived
table inet arrived {
	chain here {
		type filter hook prerouting priority -300
		udp dport ` + crossPort + ` counter
		tcp dport ` + crossPort + ` tcp flags syn counter
		icmp type echo-request counter
		icmpv6 type echo-request counter
	}
}
EOF`

var packetCount = regexp.MustCompile(`packets ([0-9]+)`)

// cross sends UDP, TCP and a ping from one namespace to an address that another one has, and
// returns how many of the three arrive there.
func cross(t *testing.T, from, to, address string) int {
	t.Helper()
	lab.Sh(t, "ip netns exec "+to+" "+counting)
	target := netip.AddrPortFrom(netip.MustParseAddr(address), 34599)
	tries(t, from, target.String())
	lab.Try("ip netns exec " + from + " ping -n -c1 -W0.3 " + address)
	kinds := 0
	for _, m := range packetCount.FindAllStringSubmatch(lab.Sh(t, "ip netns exec "+to+" nft list table inet arrived"), -1) {
		if m[1] != "0" {
			kinds++
		}
	}
	return kinds
}

// sysctlsOf are all sysctls of the network namespace, but for a count of connections.
func sysctlsOf() map[string]string {
	all := map[string]string{}
	filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(path, "/nf_conntrack_count") {
			b, _ := os.ReadFile(path)
			all[strings.TrimPrefix(path, "/proc/sys/net/")] = string(b)
		}
		return nil
	})
	return all
}

// changedSysctls lists the sysctls that differ, but for those of qnet's own links.
func changedSysctls(before, now map[string]string) []string {
	var list []string
	own := regexp.MustCompile(`/(qn[^/]*|v[a-z])/`) // and of the links that stand for taps
	for key, v := range now {
		if was, there := before[key]; was != v && !own.MatchString(key) {
			list = append(list, fmt.Sprintf("%s = %s, was %s (%t)", key, strings.TrimSpace(v), strings.TrimSpace(was), there))
		}
	}
	for key := range before {
		if _, there := now[key]; !there {
			list = append(list, key+" is gone")
		}
	}
	return list
}

// A way is what one namespace sends to an address of another, by the host.
type way struct{ name, from, to, address string }

// arrive checks how many of the three packets arrive on each of the ways.
func arrive(t *testing.T, want int, when string, ways ...way) {
	t.Helper()
	for _, w := range ways {
		if n := cross(t, w.from, w.to, w.address); n != want {
			t.Errorf("%s%s: %d of 3 arrive, want %d", when, w.name, n, want)
		}
	}
}

// closedWays are those that TestHostIsNoRouter finds closed.
var closedWays = []way{
	{"LAN to VPN", "outside", "isp", "198.18.0.1"},
	{"VPN to LAN", "isp", "outside", lab.LANOutside},
	{"LAN to VPN by IPv6", "outside", "isp", "fd00:18::1"},
	{"VPN to LAN by IPv6", "isp", "outside", "fd00:19::1"},
	{"LAN to nat", "outside", "a", "10.77.0.9"},
	{"VPN to nat", "isp", "b", "10.78.0.9"},
	{"LAN to host-only", "outside", "c", "10.79.0.9"},
	{"LAN to private", "outside", "d", "10.80.0.9"},
	{"nat to nat", "a", "b", "10.78.0.9"},
	{"nat to nat, back", "b", "a", "10.77.0.9"},
	{"nat to host-only", "a", "c", "10.79.0.9"},
	{"nat to private", "a", "d", "10.80.0.9"},
	{"host-only to nat", "c", "a", "10.77.0.9"},
	{"host-only to private", "c", "d", "10.80.0.9"},
	{"host-only to LAN", "c", "outside", lab.LANOutside},
	{"host-only to VPN", "c", "isp", "198.18.0.1"},
	{"private to nat", "d", "a", "10.77.0.9"},
	{"private to LAN", "d", "outside", lab.LANOutside},
}

// Promise P9: with networks of each mode, nothing crosses the host from its LAN to its VPN or
// back, from either to a guest, or from one network to another; no sysctl changes but the
// forwarding of the uplinks; the host keeps the default route that a router advertised.
func TestHostIsNoRouter(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true, RA: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		// up1 leads to the other end of the VPN. What outside sends elsewhere comes to the host.
		lab.Sh(t, secondISP+`
ip -n isp route add default via 198.18.0.2
ip addr add fd00:18::2/64 dev up1 nodad; ip -n isp addr add fd00:18::1/64 dev isp0 nodad; ip -n isp -6 route add default via fd00:18::2
ip -n outside route add default via `+lab.LANHost+`
ip addr add fd00:19::2/64 dev eth0 nodad; ip -n outside addr add fd00:19::1/64 dev eth0 nodad; ip -n outside -6 route add default via fd00:19::2`)
		before := sysctlsOf()
		var members []*Registration
		for i, n := range []Network{
			{Name: "dev", Mode: profiles.NAT, Subnet: subnet},
			{Name: "two", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.78.0.0/24")},
			{Name: "ho", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.79.0.0/24")},
			{Name: "priv", Mode: profiles.Private},
		} {
			members = append(members, mustJoin(t, o, n, fmt.Sprintf("vm%d", i), port(byte(i+1))))
		}
		lab.Guest(t, "a", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		lab.Guest(t, "b", "qn-two", "10.78.0.9/24", "10.78.0.1")
		lab.Guest(t, "c", "qn-ho", "10.79.0.9/24", "10.79.0.1")
		lab.Guest(t, "d", "qn-priv", "10.80.0.9/24", "10.80.0.1")
		// The host knows a way to the private network, and its guest one to the host.
		lab.Sh(t, `ip route add 10.80.0.0/24 dev qn-priv; ip neigh replace 10.80.0.9 lladdr $(ip -n d -br link show eth0 | awk '{print $3}') dev qn-priv
ip -n d neigh replace 10.80.0.1 lladdr $(cat /sys/class/net/qn-priv/address) dev eth0`)
		changed := changedSysctls(before, sysctlsOf())
		for _, c := range changed {
			if !strings.HasPrefix(c, "ipv4/conf/eth0/forwarding = 1") && !strings.HasPrefix(c, "ipv4/conf/up1/forwarding = 1") {
				t.Errorf("sysctl %s", c)
			}
		}
		if len(changed) != 2 {
			t.Errorf("changed: %q", changed)
		}
		arrive(t, 3, "", way{"a guest of nat to the LAN", "a", "outside", lab.LANOutside}, way{"a guest of nat to the VPN", "b", "isp", "198.18.0.1"})
		arrive(t, 0, "", closedWays...)
		if routes := lab.Sh(t, "ip -6 route show default"); !strings.Contains(routes, "proto ra") {
			t.Errorf("the host has lost the default route of its router: %s", routes)
		}
		lab.Sh(t, "ip route del 10.80.0.0/24; for g in a b c d; do ip link del v$g; ip netns del $g; done")
		for _, r := range members {
			mustLeave(t, r)
		}
		if left := changedSysctls(before, sysctlsOf()); len(left) > 0 {
			t.Errorf("afterwards: %q", left)
		}
		lab.Sh(t, "ip link del up1; ip addr del fd00:19::2/64 dev eth0")
	})
}

// A bridge of mode bridge is no way for what comes by another uplink whose forwarding a nat
// network turned on, whichever of them comes first and however many nat networks there are.
// What the ports of that bridge send each other passes where br_netfilter shows it.
func TestNoWayByBridgeToLAN(t *testing.T) {
	lan := Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}
	nat := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
	two := Network{Name: "two", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.78.0.0/24")}
	for name, networks := range map[string][]Network{"LAN first": {lan, nat, two}, "nat first": {nat, two, lan}} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				lab.Sh(t, secondISP+`
ip -n isp route add default via 198.18.0.2
ip -n inet route add 198.18.0.0/24 via 192.0.2.10; ip -n inet route add 10.77.0.0/24 via 192.0.2.10`)
				var members []*Registration
				for i, n := range networks {
					members = append(members, mustJoin(t, o, n, fmt.Sprintf("vm%d", i), port(byte(i+1))))
				}
				lab.Guest(t, "a", "qn-dev", "10.77.0.9/24", "10.77.0.1")
				lab.Guest(t, "b", "qn-two", "10.78.0.9/24", "10.78.0.1")
				lab.Guest(t, "l", "qn-lan", "192.0.2.77/24", "192.0.2.1")
				lab.Eventually(t, reloadTime, "guests reach the Internet by the bridge", func() bool {
					return lab.Pings("a", "203.0.113.1") && lab.Pings("b", "203.0.113.1")
				})
				for _, calls := range []string{"0", "1"} {
					lab.Sh(t, "[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables="+calls+" net.bridge.bridge-nf-call-ip6tables="+calls)
					when := "br_netfilter " + calls + ", "
					arrive(t, 3, when,
						way{"a guest on the LAN to it", "l", "inet", "192.0.2.1"},
						way{"the LAN to a guest on it", "inet", "l", "192.0.2.77"},
						way{"a guest of nat to the LAN", "a", "inet", "192.0.2.1"},
						way{"a guest of nat to a guest on the LAN", "b", "l", "192.0.2.77"},
						way{"a guest of nat to the other LAN", "b", "isp", "198.18.0.1"},
					)
					arrive(t, 0, when,
						way{"LAN to LAN", "isp", "inet", "192.0.2.1"},
						way{"LAN to LAN, back", "inet", "isp", "198.18.0.1"},
						way{"LAN to a guest on the other", "isp", "l", "192.0.2.77"},
						way{"LAN to nat", "inet", "a", "10.77.0.9"},
						way{"other LAN to nat", "isp", "a", "10.77.0.9"},
					)
				}
				lab.Sh(t, "for g in a b l; do ip link del v$g; ip netns del $g; done")
				for _, r := range members {
					mustLeave(t, r)
				}
				lab.Sh(t, "ip link del up1; ip -n inet route del 10.77.0.0/24; ip -n inet route del 198.18.0.0/24")
				lab.Try("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
			})
		})
	}
}
