package read

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/profiles"
)

// natNet is a network of a mode.
func natNet(mode profiles.Mode) filters.Promise {
	return filters.Promise{
		Name: "dev", Mode: mode, Bridge: "qn-dev", Prefix: netip.MustParsePrefix("192.168.223.0/24"),
		Gateway: netip.MustParseAddr("192.168.223.1"), Uplinks: []string{"eth0"},
	}
}

// word is a Drop in one line.
func word(d filters.Drop) string {
	s := fmt.Sprintf("%s %s %s/%s by %s", d.PacketText(), d.Engine, d.Family, d.Chain, d.Program)
	if d.Policy() {
		s += " policy"
	} else {
		s += ": " + d.Rule
	}
	if d.May != "" {
		s += " MAY"
	}
	if d.Unless != "" {
		s += " UNLESS " + d.Unless
	}
	return s
}

func words(r filters.Ruleset, n filters.Promise) string {
	var list []string
	for _, p := range r.Packets(n) {
		for _, d := range r.Drops(p) {
			list = append(list, word(d))
		}
	}
	return strings.Join(list, "\n")
}

const nftDrop = `
table inet filter {
	set lan { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 172.16.0.0/12 } }
	chain input {
		type filter hook input priority 0; policy drop;
		iif "lo" accept
		ct state vmap { established : accept, related : accept, invalid : drop }
		ip saddr @lan accept
		tcp dport { 22, 80-90 } accept
		iifname . tcp dport { "eth0" . 5000, "wlan0" . 5001 } accept
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		%s
	}
}
`

// The walk says which packets a ruleset drops, with the program and the rule. The kernel
// has loaded each of these rulesets.
func TestDrops(t *testing.T) {
	for name, c := range map[string]struct {
		load string
		mode profiles.Mode
		want []string // each is a line, or begins one; no others
	}{
		"nothing": {"nft 'table inet f { chain c { type filter hook forward priority 0; policy accept; counter; }; }'", profiles.NAT, nil},
		"nftables.conf": {"nft -f - <<'EOF'\n" + fmt.Sprintf(nftDrop, "") + "EOF", profiles.NAT, []string{
			"what guests ask the host's name server nftables inet/input by a ruleset of nft, such as /etc/nftables.conf policy",
			"what guests ask the host's name server over TCP nftables inet/input by a ruleset of nft, such as /etc/nftables.conf policy",
			"guests' pings of the host nftables inet/input by a ruleset of nft, such as /etc/nftables.conf policy",
			"what guests send to the outside nftables inet/forward by a ruleset of nft, such as /etc/nftables.conf policy",
		}},
		"accepted by a wildcard": {"nft -f - <<'EOF'\n" + fmt.Sprintf(nftDrop, `iifname "qn*" oifname "eth0" accept`) + "EOF", profiles.NAT, []string{
			"what guests ask the host's name server n", "what guests ask the host's name server over TCP", "guests' pings",
		}},
		"accepted in a chain": {`nft 'table inet f { chain ok { iifname vmap { "qn-dev" : accept, "qn-x" : drop }; }; chain c { type filter hook forward priority 0; jump ok; reject; }; }'`, profiles.NAT, []string{
			"what the outside answers guests nftables inet/c by a ruleset of nft, such as /etc/nftables.conf: reject",
		}},
		"goto ends": {`nft 'table inet f { chain ok { counter; }; chain c { type filter hook forward priority 0; policy drop; goto ok; accept; }; }'`, profiles.NAT, []string{
			"what guests send to the outside nftables inet/c", "what the outside answers guests nftables inet/c",
		}},
		"may": {`nft 'table inet f { chain c { type filter hook forward priority 0; meta skuid 7 drop; limit rate 1/second accept; ct state new drop; }; }'`, profiles.NAT, []string{
			"what guests send to the outside nftables inet/c by a ruleset of nft, such as /etc/nftables.conf: [a match of nft] drop MAY",
			"what guests send to the outside nftables inet/c by a ruleset of nft, such as /etc/nftables.conf: ct state new drop UNLESS [limit] accept",
			"what the outside answers guests nftables inet/c by a ruleset of nft, such as /etc/nftables.conf: [a match of nft] drop MAY",
		}},
		"iptables-nft": {"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", profiles.NAT, []string{
			"what guests send to the outside iptables-nft ip/FORWARD by a policy of iptables-nft policy",
		}},
		"iptables-legacy": {"iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -i lo -j ACCEPT; iptables-legacy -N x; iptables-legacy -A FORWARD -j x; iptables-legacy -A x -i qn+ -j REJECT", profiles.NAT, []string{
			"what guests ask the host's name server iptables-legacy ip/INPUT by a policy of iptables-legacy policy",
			"what guests ask the host's name server over TCP iptables-legacy ip/INPUT",
			"guests' pings of the host iptables-legacy ip/INPUT",
			"what the host sends to guests, the answer iptables-legacy ip/INPUT",
			"what guests send to the outside iptables-legacy ip/x by a rule of iptables-legacy: -A x -i qn+ -j REJECT",
		}},
		"host-only is not forwarded": {"iptables-nft -P FORWARD DROP", profiles.HostOnly, nil},
		"output":                     {"iptables-nft -P OUTPUT DROP; iptables-nft -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", profiles.HostOnly, []string{"what the host sends to guests iptables-nft ip/OUTPUT"}},
		"bridge family": {"nft 'table bridge b { chain f { type filter hook forward priority 0; policy drop; ether type arp accept; }; }'", profiles.Private, []string{
			"what guests send each other nftables bridge/f by a ruleset of nft", "what guests send each other, the answer", "what guests send each other over IPv6 nftables", "what guests send each other over IPv6, the answer",
		}},
		"ingress": {"ip link add qn-dev type bridge; nft 'table netdev n { chain i { type filter hook ingress device \"qn-dev\" priority 0; policy drop; }; }'", profiles.HostOnly, []string{
			"what guests ask the host's name server n", "what guests ask the host's name server over TCP", "guests' pings", "what the host sends to guests, the answer",
			"what guests send each other nftables netdev/i", "what guests send each other, the answer", "what guests send each other over IPv6 n", "what guests send each other over IPv6, t",
		}},
		"kill-switch": {"nft 'table inet mullvad { chain forward { type filter hook forward priority 0; policy drop; oifname \"wg0-mullvad\" accept; }; }'", profiles.NAT, []string{
			"what guests send to the outside nftables inet/forward by Mullvad VPN policy", "what the outside answers guests nftables inet/forward by Mullvad VPN policy",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(c.load, "-legacy") {
				lab.Require(t, lab.Legacy)
			}
			lab.Run(t, func(t *testing.T) {
				lab.Sh(t, "[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
				lab.Sh(t, c.load)
				got := words(Ruleset(), natNet(c.mode))
				lines := strings.Split(got, "\n")
				if got == "" {
					lines = nil
				}
				ok := len(lines) == len(c.want)
				for i := 0; ok && i < len(lines); i++ {
					ok = strings.HasPrefix(lines[i], c.want[i])
				}
				if !ok {
					t.Errorf("got\n%s\nwant\n%s", got, strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

// br_netfilter shows the frames between guests to FORWARD, in every mode (F02).
func TestDropsWithBridgeNetfilter(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Require(t, lab.Need{Name: "br_netfilter", OK: func() bool { _, err := os.Stat("/proc/sys/net/bridge"); return err == nil }})
		lab.Sh(t, "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP")
		for calls, want := range map[string]int{"0": 0, "1": 4} {
			lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables="+calls+" net.bridge.bridge-nf-call-ip6tables="+calls)
			for _, mode := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.Bridge} {
				got := words(Ruleset(), natNet(mode))
				if n := strings.Count(got, "FORWARD"); n != want {
					t.Errorf("%s with bridge-nf-call-iptables=%s: %d drops, want %d:\n%s", mode, calls, n, want, got)
				}
			}
		}
	})
}
