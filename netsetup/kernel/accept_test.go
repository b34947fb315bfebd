package kernel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// acceptsOf plans a network on the host as it is and returns its accepts.
func acceptsOf(t *testing.T, mode profiles.Mode) (accepts step.List, notes []string) {
	t.Helper()
	facts, err := host.ObserveNetwork()
	if err != nil {
		t.Fatal(err)
	}
	n := plan.Network{Name: "dev", Mode: mode, Subnet: netip.MustParsePrefix("192.168.223.0/24")}
	switch mode {
	case profiles.Private:
		n.Subnet = netip.Prefix{}
	case profiles.Bridge:
		n.Subnet, n.Uplink = netip.Prefix{}, "br0"
	}
	p, err := plan.New(n, facts, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	_, accepts = apply.SplitOptional(p.Steps)
	return accepts, p.Notes
}

// inboundAccepts let guests reach what the network needs of the host, and no more of it.
func inboundAccepts(program string) []string {
	var list []string
	for _, what := range []string{"-p udp -m udp --dport 53", "-p tcp -m tcp --dport 53", "-p icmp -m icmp --icmp-type 8", "-m conntrack --ctstate RELATED,ESTABLISHED"} {
		list = append(list, program+" INPUT -s 192.168.223.0/24 -d 192.168.223.1/32 -i qn-dev "+what+` -m comment --comment "qnet:dev" -j ACCEPT`)
	}
	return list
}

// qnet puts its accepts where the owners of iptables' chains expect them, and names a remedy
// where no owner does.
func TestAcceptsWhereOwnersExpectThem(t *testing.T) {
	bridgeOff := "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0\n"
	inbound := inboundAccepts("iptables-nft")
	out := `-i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`
	back := `-o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "qnet:dev" -j ACCEPT`
	between := `-i qn-dev -o qn-dev -m comment --comment "qnet:dev" -j ACCEPT`
	for name, c := range map[string]struct {
		load string
		mode profiles.Mode
		want []string // the commands, without what is the same in all
		note string   // words of the one note
	}{
		"nothing drops": {"iptables-nft -A FORWARD -i eth0 -j LOG", profiles.NAT, nil, ""},
		"policy": {bridgeOff + "iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP", profiles.NAT, append(
			slices.Clone(inbound), "iptables-nft FORWARD "+out, "iptables-nft FORWARD "+back,
		), ""},
		"policy, host-only": {bridgeOff + "iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP", profiles.HostOnly, inbound, ""},
		"iptables-legacy":   {bridgeOff + "iptables-legacy -P INPUT DROP", profiles.HostOnly, inboundAccepts("iptables-legacy"), ""},
		"pings and replies pass": {
			bridgeOff + "iptables-nft -P INPUT DROP; iptables-nft -A INPUT -p icmp -j ACCEPT; iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
			profiles.HostOnly, inbound[:2], "",
		},
		"a service of the host is the firewall's": {bridgeOff + "iptables-nft -A INPUT -p tcp --dport 34567 -j DROP", profiles.HostOnly, nil, ""},
		"output": {bridgeOff + "iptables-nft -P OUTPUT DROP", profiles.HostOnly, []string{
			`iptables-nft OUTPUT -s 192.168.223.1/32 -d 192.168.223.0/24 -o qn-dev -m comment --comment "qnet:dev" -j ACCEPT`,
		}, ""},
		"a reject at the end": {bridgeOff + "iptables-nft -A FORWARD -i lo -j ACCEPT; iptables-nft -A FORWARD -j REJECT", profiles.NAT, []string{
			"iptables-nft FORWARD " + out, "iptables-nft FORWARD " + back,
		}, ""},
		"DOCKER-USER": {bridgeOff + "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN", profiles.NAT, []string{
			"iptables-nft DOCKER-USER " + out, "iptables-nft DOCKER-USER " + back,
		}, ""},
		"DOCKER-USER too late": {bridgeOff + "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DROP; iptables-nft -A FORWARD -j DOCKER-USER", profiles.NAT, []string{
			"iptables-nft FORWARD " + out, "iptables-nft FORWARD " + back,
		}, ""},
		"both engines": {bridgeOff + "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP", profiles.NAT, []string{
			"iptables-nft FORWARD " + out, "iptables-nft FORWARD " + back, "iptables-legacy FORWARD " + out, "iptables-legacy FORWARD " + back,
		}, ""},
		"br_netfilter": {"iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP", profiles.Private, []string{
			"iptables-nft FORWARD " + between, "ip6tables-nft FORWARD " + between,
		}, ""},
		"br_netfilter, nat": {"iptables-nft -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP", profiles.NAT, []string{
			"iptables-nft FORWARD " + out, "iptables-nft FORWARD " + back, "ip6tables-legacy FORWARD " + between,
		}, ""},
		"another's bridge": {"iptables-nft -P FORWARD DROP", profiles.Bridge, []string{
			`iptables-nft FORWARD -i br0 -o br0 -m physdev --physdev-in qn+ --physdev-is-bridged -m comment --comment "qnet:dev" -j ACCEPT`,
			`iptables-nft FORWARD -i br0 -o br0 -m physdev --physdev-out qn+ --physdev-is-bridged -m comment --comment "qnet:dev" -j ACCEPT`,
		}, "br0 is a bridge without a port"},
		"nft is not edited": {
			"nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; ct state established accept; }; }'", profiles.NAT, nil,
			"`nft insert rule inet filter forward iifname \"qn-dev\" accept`",
		},
		"mangle is not edited": {bridgeOff + "iptables-nft -t mangle -A PREROUTING -i qn+ -j DROP", profiles.HostOnly, nil, "-t mangle -I PREROUTING"},
		"kill-switch":          {bridgeOff + "nft 'table inet mullvad { chain forward { type filter hook forward priority 0; policy drop; }; }'", profiles.NAT, nil, "blocked on purpose by Mullvad VPN"},
		"kill-switch in iptables": {
			bridgeOff + "iptables-nft -N IVPN-FORWARD; iptables-nft -A FORWARD -j IVPN-FORWARD; iptables-nft -A IVPN-FORWARD -j DROP", profiles.NAT, nil,
			"blocked on purpose by IVPN",
		},
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, lab.Program("iptables-nft"), lab.Legacy, lab.Program("nft"))
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				lab.Sh(t, "ip link add br0 type bridge; ip link set br0 up\n"+c.load)
				before := lab.Snapshot(t)
				accepts, notes := acceptsOf(t, c.mode)
				var got []string
				for _, a := range accepts {
					got = append(got, strings.Replace(a.String(), " -w 10 -t filter -I", "", 1))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
				if c.note == "" && len(notes) > 0 || c.note != "" && (len(notes) != 1 || !strings.Contains(notes[0], c.note)) {
					t.Errorf("notes %q, want one with %q", notes, c.note)
				}
				tryAccepts(t, accepts)
				before.Check(t)
			})
		})
	}
}

// tryAccepts does the steps twice and undoes them, beside copies of other programs.
func tryAccepts(t *testing.T, accepts step.List) {
	t.Helper()
	host := newHost(t)
	for range 2 {
		if err := apply.Do(t.Context(), host.Kernel(), accepts, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range accepts {
		rule := s.(step.AddAccept).Rule
		filters, err := host.ReadFilters(t.Context())
		if n := filters.Count(rule); n != 1 || err != nil {
			t.Errorf("%s: there %d times, %v", rule.Text(), n, err)
		}
		if err := host.InsertAccept(t.Context(), rule); err != nil {
			t.Error(err)
		}
	}
	if err := apply.Undo(t.Context(), host.Kernel(), accepts); err != nil {
		t.Error(err)
	}
}
