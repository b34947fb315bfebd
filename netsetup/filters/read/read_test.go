package read

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// rulesV4 and rulesV6 are rules in the words of iptables-save.
const rulesV4 = `
-N mine
-N DOCKER-USER
-P FORWARD DROP
-A INPUT -i lo -j ACCEPT
-A INPUT ! -i eth0 -j mine
-A FORWARD -i qn+ -o eth+ -j mine
-A INPUT -s 10.1.2.3/32 -d 192.168.0.0/16 -j ACCEPT
-A INPUT ! -s 10.0.0.0/9 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p tcp -m tcp ! --sport 1000:2000 --dport 80 -j DROP
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT
-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A INPUT -p udp -m multiport --dports 53,100:200,5353 -j ACCEPT
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack ! --ctstate NEW,DNAT -j RETURN
-A INPUT -m state --state NEW -j RETURN
-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
-A INPUT -m addrtype ! --src-type LOCAL --dst-type BROADCAST -j ACCEPT
-A INPUT -m mark --mark 0x8000/0x8000 -j DROP
-A INPUT -m comment --comment "two words" -j ACCEPT
-A INPUT -m comment --comment qnet:dev -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -g mine
-A mine -j REJECT --reject-with icmp-port-unreachable
`

const rulesV6 = `
-N mine
-P INPUT DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -s fe80::/10 -d ff02::1/128 -j ACCEPT
-A INPUT -s fd00:1:2:3::/64 -i qn+ -j mine
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p udp -m udp --dport 53 -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m comment --comment qnet:dev -j ACCEPT
-A FORWARD -g mine
-A mine -j RETURN
`

// The text of a rule equals what the program of its engine lists. So the decoder has
// understood all of it, and the text can name the rule in order to remove it.
func TestTextsEqualSave(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Require(t, lab.Program("iptables-nft"), lab.Legacy)
		for _, c := range []struct {
			program string
			engine  filters.Engine
			family  nft.Family
			rules   string
		}{
			{"iptables-nft", filters.IPTablesNFT, nft.IP, rulesV4},
			{"iptables-legacy", filters.IPTablesLegacy, nft.IP, rulesV4},
			{"ip6tables-nft", filters.IPTablesNFT, nft.IP6, rulesV6},
			{"ip6tables-legacy", filters.IPTablesLegacy, nft.IP6, rulesV6},
		} {
			for line := range strings.Lines(strings.TrimSpace(c.rules)) {
				lab.Sh(t, c.program+" "+strings.TrimSpace(line))
			}
			var got []string
			for _, table := range Ruleset().Tables {
				if table.Engine != c.engine || table.Family != c.family {
					continue
				}
				for _, chain := range table.Chains {
					for _, r := range chain.Rules {
						got = append(got, r.Text)
					}
				}
			}
			var want []string
			for line := range strings.Lines(lab.Sh(t, c.program+"-save -t filter")) {
				if strings.HasPrefix(line, "-A") {
					want = append(want, strings.TrimSpace(line))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: got\n%s\nwant\n%s", c.program, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

// Reading loads no module. It leaves out the tables that bear qnet's mark.
func TestReadNothing(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		r := Ruleset()
		if len(r.Tables) > 0 || len(r.Unread) > 0 {
			t.Errorf("got %+v in an empty namespace", r)
		}
		if names := lab.Sh(t, "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true"); names != "" {
			t.Errorf("reading loaded %q", names)
		}
		lab.Sh(t, `nft 'add table inet qnet_dev { comment "qnet:dev"; }'; nft add table inet qnet_other`)
		if r = Ruleset(); len(r.Tables) != 1 || r.Tables[0].Name != "qnet_other" {
			t.Errorf("got %+v, want what does not bear our mark", r.Tables)
		}
	})
}

// A snapshot is the same after JSON.
func TestRulesetJSON(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, "iptables-nft -P FORWARD DROP; nft 'table inet f { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }; chain c { type filter hook input priority 5; policy drop; ip saddr @s accept; }; }'")
		want := Ruleset()
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got filters.Ruleset
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v (%v)", got, want, err)
		}
	})
}
