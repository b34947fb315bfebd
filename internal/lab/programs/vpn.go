package programs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// vpnScripts are stand-ins for VPN clients: what they do to the host's routes, rules
// and filters for the tunnel tun0, a veth to the namespace inet with MTU 1420.
var vpnScripts = map[string]struct{ up, down string }{
	// OpenVPN's redirect-gateway def1.
	"two /1 routes": {
		`ip route add 192.0.2.1 dev eth0; ip route add 0.0.0.0/1 via 10.200.0.1; ip route add 128.0.0.0/1 via 10.200.0.1`,
		`ip route del 192.0.2.1 dev eth0`,
	},
	// wg-quick's: everything but what the tunnel itself sends, which bears the mark.
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
	// A strict host, on which a reply must come in by the way back.
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

// VPNs are the names of those there are.
func VPNs() []string {
	return []string{"two /1 routes", "policy rules", "two /1 routes, strict rp_filter"}
}

// VPN is one of VPNs. Everything the host sends to the outside goes by tun0.
func VPN(name string) Neighbour {
	s := vpnScripts[name]
	return Neighbour{
		Name:  "VPN (" + name + ")",
		Needs: []lab.Need{lab.Root, lab.Program("nft")},
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

// vpnState leaves out the priorities of rules, which the kernel gives: a rule of
// qnet's that stands for a moment moves those that are added then up.
func vpnState(t testing.TB) string {
	return lab.Sh(t, `ip -o addr show dev tun0 | sed 's/^[0-9]*//'; ip route; ip route show table 51820 2> /dev/null || true; ip rule | cut -d: -f2
nft list table ip wg-quick-tun0 2> /dev/null || true; sysctl net/ipv4/conf/all/rp_filter net/ipv4/conf/all/src_valid_mark`)
}

// StopVPN takes the VPN down, as its client does.
func StopVPN(t testing.TB, name string) {
	t.Helper()
	lab.Sh(t, vpnScripts[name].down+tunnelDown)
}

// throughTunnel reports an error unless a namespace, "" for the host, reaches the
// outside, and by the tunnel alone.
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

// received are the counters of inet's links.
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

// ThroughTunnel is as throughTunnel, for guests of qnet's.
func ThroughTunnel(t testing.TB, guest string) error { return throughTunnel(t, guest) }
