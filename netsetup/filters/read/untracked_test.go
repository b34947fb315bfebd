package read

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// raw is a table of nft whose rules see packets before they are tracked.
func raw(family, prerouting, output string) string {
	return "nft 'table " + family + " raw2 { chain p { type filter hook prerouting priority raw; " + prerouting +
		" }; chain o { type filter hook output priority raw; " + output + " }; }'\n"
}

// A rule that keeps packets from being tracked is named where it keeps the network's from
// being masqueraded, and nowhere else. The kernel has loaded each of these rulesets.
func TestUntracked(t *testing.T) {
	const outside, names = "what guests send to the outside", "what guests ask name servers outside"
	const nftWay, backWay = `nft insert rule inet raw2 p iifname "qn-dev" accept`, `nft insert rule inet raw2 p iifname "eth0" meta l4proto { tcp, udp } th dport 1024-65535 accept`
	for name, c := range map[string]struct {
		load string
		mode profiles.Mode
		want []string // parts of the only answer; none for no answer
	}{
		"everything":            {raw("inet", "notrack;", "notrack;"), profiles.NAT, []string{"a ruleset of nft", "(nftables, table inet raw2, chain p: notrack) keeps " + outside + " and the answers to " + outside + " from being tracked", nftWay, backWay, `iifname "eth0" meta l4proto icmp accept`}},
		"in a chain of its own": {"nft 'table ip t { chain off { notrack; }; chain p { type filter hook prerouting priority -250; iifname vmap { \"qn-dev\" : jump off }; }; }'", profiles.NAT, []string{"table ip t, chain off: notrack) keeps " + outside + " from", `nft insert rule ip t p iifname "qn-dev" accept`}},
		"the answers":           {raw("inet", `iifname "eth0" notrack;`, ""), profiles.NAT, []string{`iifname "eth0" notrack) keeps the answers to ` + outside + " from", backWay}},
		"a DNS server's":        {raw("inet", "udp dport 53 notrack; udp sport 53 notrack;", "udp dport 53 notrack; udp sport 53 notrack;"), profiles.NAT, []string{"udp dport 53 notrack) keeps " + names + " and the answers to " + names + " from"}},
		"to one address":        {raw("inet", "ip daddr 203.0.113.2 udp dport 53 notrack;", ""), profiles.NAT, nil},
		"to the host itself":    {raw("inet", "fib daddr type local tcp dport { 80, 443 } notrack;", ""), profiles.NAT, nil},
		"what others send":      {raw("inet", `iifname "eth1" notrack;`, "notrack;"), profiles.NAT, nil},
		"IPv6 alone":            {raw("ip6", "notrack;", "notrack;"), profiles.NAT, nil},
		"accepted before":       {raw("inet", "accept; notrack;", ""), profiles.NAT, nil},
		"too late":              {"nft 'table inet t { chain p { type filter hook prerouting priority mangle; notrack; }; chain f { type filter hook forward priority raw; notrack; }; }'", profiles.NAT, nil},
		"nothing to masquerade": {raw("inet", "notrack;", "notrack;"), profiles.HostOnly, nil},
		"iptables-nft":          {"iptables-nft -t raw -A PREROUTING -j CT --notrack", profiles.NAT, []string{"iptables-nft, table ip raw, chain PREROUTING: -A PREROUTING -j CT --notrack) keeps", "iptables-nft -w 10 -t raw -I PREROUTING -i qn-dev", "-i eth0 -p tcp --dport 1024:65535", "-i eth0 -p udp --dport 1024:65535", "-i eth0 -p icmp"}},
		"iptables-nft, a zone":  {"iptables-nft -t raw -A PREROUTING -j CT --zone 7", profiles.NAT, nil},
		"ip6tables-nft":         {"ip6tables-nft -t raw -A PREROUTING -j CT --notrack", profiles.NAT, nil},
		"iptables-legacy":       {"iptables-legacy -t raw -A PREROUTING -i qn+ -j CT --notrack", profiles.NAT, []string{"iptables-legacy, table ip raw, chain PREROUTING: -A PREROUTING -i qn+ -j CT --notrack) keeps " + outside + " from", "iptables-legacy -w 10 -t raw -I PREROUTING -i qn-dev"}},
		"NOTRACK":               {"iptables-legacy -t raw -A PREROUTING -j NOTRACK", profiles.NAT, []string{"-A PREROUTING -j CT --notrack) keeps"}},
		"a firewall behind it":  {raw("inet", "notrack;", "notrack;") + "nft 'table inet f { chain i { type filter hook input priority 0; policy drop; ct state new,established accept; }; }'", profiles.HostOnly, []string{"table inet f, chain i, policy drop) drops what guests ask"}},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(c.load, "-legacy") {
				lab.Require(t, lab.Legacy)
			}
			lab.Run(t, func(t *testing.T) {
				lab.Sh(t, c.load)
				answers := Ruleset().Answers(natNet(c.mode))
				if len(answers) == 0 && len(c.want) == 0 {
					return
				}
				if len(answers) != 1 || len(c.want) == 0 {
					t.Fatalf("got %d answers: %+v", len(answers), answers)
				}
				for _, want := range c.want {
					if got := answers[0].String(); !strings.Contains(got, want) {
						t.Errorf("got\n%s\nwithout %q", got, want)
					}
				}
			})
		})
	}
}
