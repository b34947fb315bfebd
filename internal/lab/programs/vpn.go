package programs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// vpnScripts are stand-ins for VPN clients. They change the routes, rules and filters of
// the host for the tunnel tun0, which is a veth with MTU 1420 to the namespace inet.
var vpnScripts = map[string]struct{ up, down string }{
	// OpenVPN's redirect-gateway def1.
	"two /1 routes": {
		`ip route add 192.0.2.1 dev eth0; ip route add 0.0.0.0/1 via 10.200.0.1; ip route add 128.0.0.0/1 via 10.200.0.1`,
		`ip route del 192.0.2.1 dev eth0`,
	},
	// wg-quick: all packets take the tunnel but its own, which bear the mark.
	"policy rules": {
		`ip route add default dev tun0 via 10.200.0.1 table 51820
ip rule add not fwmark 51820 table 51820
ip rule add table main suppress_prefixlength 0
sysctl -qw net/ipv4/conf/all/src_valid_mark=1
nft -f - <<'EOF2'
table ip wg-quick-tun0 {
	chain preraw { type filter hook prerouting priority -300; policy accept; iifname != "tun0" ip daddr 10.200.0.2 fib saddr type != local drop; }
	chain premangle { type filter hook prerouting priority -150; policy accept; meta l4proto udp meta mark set ct mark; }
	chain postmangle { type filter hook postrouting priority -150; policy accept; meta l4proto udp meta mark 51820 ct mark set meta mark; }
}
EOF2`,
		`nft delete table ip wg-quick-tun0; sysctl -qw net/ipv4/conf/all/src_valid_mark=0
ip rule del table main suppress_prefixlength 0; ip rule del not fwmark 51820 table 51820`,
	},
	// The host accepts a packet only by the link by which it would reply.
	"two /1 routes, strict rp_filter": {
		`sysctl -qw net/ipv4/conf/all/rp_filter=1
ip route add 192.0.2.1 dev eth0; ip route add 0.0.0.0/1 via 10.200.0.1; ip route add 128.0.0.0/1 via 10.200.0.1`,
		`ip route del 192.0.2.1 dev eth0; sysctl -qw net/ipv4/conf/all/rp_filter=0`,
	},
}

const (
	tunnelUp = `ip link add tun0 mtu 1420 type veth peer name vpn0 mtu 1420 netns inet
ip -n inet link set vpn0 addrgenmode none up; ip -n inet addr add 10.200.0.1/24 dev vpn0
ip link set tun0 addrgenmode none up; ip addr add 10.200.0.2/24 dev tun0
`
	tunnelDown = "\nip link del tun0"
)

// VPNs are the names that VPN knows.
func VPNs() []string {
	return []string{"two /1 routes", "policy rules", "two /1 routes, strict rp_filter"}
}

// VPN is one of VPNs. Everything that the host sends to the outside takes tun0.
func VPN(name string) Program {
	s := vpnScripts[name]
	return Program{
		Name:  "VPN (" + name + ")",
		Needs: []lab.Need{lab.Namespaces, lab.Program("nft")},
		Start: func(t testing.TB) {
			lab.Sh(t, tunnelUp+s.up)
			t.Cleanup(func() { lab.Try(s.down + tunnelDown) })
		},
		Reload:  func(t testing.TB) { lab.Sh(t, s.down+tunnelDown+"\n"+tunnelUp+s.up) },
		Works:   func(t testing.TB) error { return throughTunnel(t, "") },
		State:   vpnState,
		Version: func() string { return "VPN stand-in (" + name + ")" },
		Refuses: func(profiles.Mode) string { return "" },
	}
}

// vpnState leaves out the priorities of rules. The kernel chooses these, and chooses
// others for rules that are added while a rule of qnet is there.
func vpnState(t testing.TB) string {
	return lab.Sh(t, `ip -o addr show dev tun0 | sed 's/^[0-9]*//'; ip route; ip route show table 51820 2> /dev/null || true; ip rule | cut -d: -f2
nft list table ip wg-quick-tun0 2> /dev/null || true; sysctl net/ipv4/conf/all/rp_filter net/ipv4/conf/all/src_valid_mark`)
}

// StopVPN stops the VPN as its client does.
func StopVPN(t testing.TB, name string) {
	t.Helper()
	lab.Sh(t, vpnScripts[name].down+tunnelDown)
}

// throughTunnel is an error unless a namespace reaches the outside, and only by the
// tunnel. The name "" is the host.
func throughTunnel(t testing.TB, from string) error {
	t.Helper()
	before := received(t)
	if !lab.Pings(from, "203.0.113.1") {
		return errors.New("the outside is not reached")
	}
	after := received(t)
	if after["vpn0"] == before["vpn0"] {
		return fmt.Errorf("what %q sends does not go into the tunnel: %v, then %v", from, before, after)
	}
	return nil
}

// received are the counters of the links in inet.
func received(t testing.TB) map[string]string {
	t.Helper()
	counts := map[string]string{}
	for line := range strings.Lines(lab.Sh(t, "ip netns exec inet cat /proc/net/dev")) {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			counts[strings.TrimSpace(name)] = strings.Fields(rest)[1]
		}
	}
	return counts
}

// ThroughTunnel is throughTunnel for a guest of qnet.
func ThroughTunnel(t testing.TB, guest string) error { return throughTunnel(t, guest) }
