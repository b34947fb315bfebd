package probe

import (
	"cmp"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// fault is something wrong with the host, with what a probe must say about it.
type fault struct {
	mode   profiles.Mode // "" is nat
	inject string        // a shell script
	step   string        // that fails
	cause  []string      // parts of its cause
	remedy string        // a shell script, said for the commands in the cause, "" if it says none: the step passes afterwards
	hide   bool          // the iptables programs from the keeper, which else would put the remedy in place itself
}

// said stands for the commands of a cause about what guests need of the host.
const said = "said"

func nftables(rules string) string { return "nft -f - <<'EOF'\n" + rules + "\nEOF\n" }

// faults has faults at each stage from the tap to the reply.
var faults = map[string]fault{
	"input of nftables": {
		inject: nftables(`table inet f { chain i { type filter hook input priority 0; policy drop; ct state established accept; iif lo accept; }; }`),
		step:   "gateway ping", cause: []string{"drop at input: table inet f chain i policy DROP", `nft insert rule inet f i iifname "qn-dev" ip saddr 10.77.0.0/24 ip daddr 10.77.0.1 icmp type echo-request accept`},
		remedy: said,
	},
	"name server's port": {
		inject: nftables(`table inet f { chain i { type filter hook input priority 0; udp dport 53 counter drop; }; }`),
		step:   "name host.qnet", cause: []string{`drop at input: table inet f chain i rule "udp dport 53 drop # handle 2"`},
		remedy: said,
	},
	"forward of iptables, as Docker leaves it": {
		hide:   true,
		inject: "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER",
		step:   "connect", cause: []string{"drop at forward: iptables-nft table ip filter chain FORWARD policy DROP (Docker)", "iptables-nft -I DOCKER-USER -i qn-dev -j ACCEPT"},
		remedy: "iptables-nft -I DOCKER-USER -i qn-dev -j ACCEPT; iptables-nft -I DOCKER-USER -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	},
	"a rule that rejects": {
		hide:   true,
		inject: "iptables-nft -A FORWARD -i qn-dev -o eth0 -j REJECT",
		step:   "connect", cause: []string{"drop at forward: iptables-nft table ip filter chain FORWARD rule", "-j REJECT"},
	},
	"a rule that resets": {
		hide:   true,
		inject: "iptables-nft -A FORWARD -i qn-dev -o eth0 -p tcp -j REJECT --reject-with tcp-reset",
		step:   "connect", cause: []string{"drop at forward: iptables-nft table ip filter chain FORWARD rule", "-j REJECT --reject-with tcp-reset"},
	},
	"no DHCP server on the LAN": {
		mode:   profiles.Bridge,
		inject: "kill $(cat $DIR/dnsmasq.pid)",
		step:   "lease", cause: []string{"nothing on the LAN behind lan0 answers"},
	},
	"br_netfilter before the LAN": {
		hide:   true,
		mode:   profiles.Bridge,
		inject: "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables-nft -P FORWARD DROP",
		step:   "lease", cause: []string{"drop at forward: iptables-nft table ip filter chain FORWARD policy DROP"},
		remedy: "iptables-nft -I FORWARD -i qn-dev -j ACCEPT",
	},
	"no link to the LAN": {
		mode:   profiles.Bridge,
		inject: "ip -n lan link set port0 down",
		step:   "lease", cause: []string{"lan0 has no link"},
	},
	"output": {
		inject: nftables(`table ip f { chain o { type filter hook output priority 0; ip protocol icmp oifname "qn-*" drop; }; }`),
		step:   "gateway ping", cause: []string{"the answer: drop at output: table ip f chain o rule"},
		remedy: "nft insert rule ip f o oifname qn-dev accept",
	},
	"prerouting": {
		inject: nftables(`table ip f { chain p { type filter hook prerouting priority -150; ip daddr 203.0.113.1 drop; }; }`),
		step:   "connect", cause: []string{"drop at prerouting: table ip f chain p rule"},
	},
	"postrouting": {
		inject: nftables(`table inet f { chain p { type filter hook postrouting priority 0; jump q; }; chain q { oifname "eth0" meta l4proto tcp drop; }; }`),
		step:   "connect", cause: []string{"drop at postrouting: table inet f chain q rule"},
	},
	"forward of iptables-legacy": {
		hide:   true,
		inject: "iptables-legacy -P FORWARD DROP",
		step:   "connect", cause: []string{"drop at forward: iptables-legacy table ip filter chain FORWARD policy DROP", "iptables-legacy -I FORWARD -i qn-dev -j ACCEPT"},
		remedy: "iptables-legacy -I FORWARD -i qn-dev -j ACCEPT; iptables-legacy -I FORWARD -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	},
	"a rule of iptables-legacy that rejects": {
		hide:   true,
		inject: "iptables-legacy -A FORWARD -o eth0 -j REJECT --reject-with icmp-net-unreachable",
		step:   "connect", cause: []string{"drop at forward: iptables-legacy table ip filter chain FORWARD rule"},
	},
	"input of iptables-legacy": {
		hide:   true,
		inject: "iptables-legacy -A INPUT -p icmp -j DROP",
		step:   "gateway ping", cause: []string{`drop at input: iptables-legacy table ip filter chain INPUT rule "-A INPUT -p icmp -j DROP"`},
		remedy: said,
	},
	"DHCP in the bridge family": {
		mode:   profiles.HostOnly,
		inject: nftables(`table bridge f { chain i { type filter hook input priority 0; udp dport 67 drop; }; }`),
		step:   "lease", cause: []string{"drop at input: table bridge f chain i rule"},
	},
	"DHCP's answer in the bridge family": {
		inject: nftables(`table bridge f { chain o { type filter hook output priority 0; udp dport 68 drop; }; }`),
		step:   "lease", cause: []string{"the answer: drop at output: table bridge f chain o rule"},
	},
	"ARP in the bridge family": {
		inject: nftables(`table bridge f { chain p { type filter hook prerouting priority 0; ether type arp drop; }; }`),
		step:   "gateway ARP", cause: []string{"drop at prerouting: table bridge f chain p rule"},
	},
	"br_netfilter between guests": {
		hide:   true,
		mode:   profiles.Private,
		inject: "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables-nft -P FORWARD DROP",
		step:   "another guest", cause: []string{"drop at forward: iptables-nft table ip filter chain FORWARD policy DROP"},
		remedy: "iptables-nft -I FORWARD -i qn-dev -j ACCEPT",
	},
	"strict rp_filter": {
		inject: `ip link add eth1 type veth peer name lan1 netns inet
			ip -n inet link set lan1 addrgenmode none up; ip link set eth1 addrgenmode none up
			ip addr add 192.0.3.10/24 dev eth1; ip -n inet addr add 192.0.3.1/24 dev lan1
			ip -n inet route add 192.0.2.10/32 via 192.0.3.10
			sysctl -qw net.ipv4.conf.eth1.rp_filter=1
			ip netns exec inet sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0
			ip -n inet neigh add 192.0.3.10 lladdr $(cat /sys/class/net/eth1/address) dev lan1`,
		step: "connect", cause: []string{"the answer is dropped by rp_filter on eth1", "sysctl -w net.ipv4.conf.eth1.rp_filter=2"},
		remedy: "sysctl -qw net.ipv4.conf.eth1.rp_filter=2",
	},
	"MTU black hole": {
		inject: "ip -n inet link set lan0 mtu 1400",
		step:   "full-size packet", cause: []string{"MTU black hole behind eth0", "1400 pass", "ip link set eth0 mtu 1400"},
	},
	"no default route": {
		inject: "ip route del default",
		step:   "connect", cause: []string{"no route: the host has no route there"},
		remedy: "ip route add default via 192.0.2.1",
	},
	"blackhole route": {
		inject: "ip route add blackhole 203.0.113.0/24",
		step:   "connect", cause: []string{"no route: the host has none to 203.0.113.1", "a blackhole route"},
		remedy: "ip route del blackhole 203.0.113.0/24",
	},
	"DNS dead": {
		inject: "echo nameserver 203.0.113.99 > /etc/resolv.conf",
		step:   "name outside", cause: []string{"DNS is dead on the host itself: none of its resolvers answers (203.0.113.99)"},
	},
	"no masquerade: not tracked": {
		inject: nftables(`table ip raw2 { chain p { type filter hook prerouting priority -300; iifname "qn-*" notrack; }; }`),
		step:   "connect", cause: []string{"not masqueraded: the connection is not tracked", `table ip raw2 chain p has the rule "iifname \"qn-*\" notrack"`},
	},
	"another's translation before ours": {
		inject: nftables(`table ip x { chain po { type nat hook postrouting priority 0; ip saddr 10.0.0.0/8 oifname "eth0" snat to 198.51.100.99; }; }`),
		step:   "connect", cause: []string{"masqueraded wrongly: the packet leaves by eth0 as 198.51.100.99", "table ip x chain po"},
	},
	"reply dropped": {
		inject: nftables(`table inet f { chain f { type filter hook forward priority 0; iifname "eth0" oifname "qn-dev" drop; }; }`),
		step:   "connect", cause: []string{"the answer: drop at forward: table inet f chain f rule"},
		remedy: "nft insert rule inet f f oifname qn-dev ct state established,related accept",
	},
	"uplink's gateway dead": {
		inject: "ip -n inet link set lan0 arp off; ip neigh flush dev eth0",
		step:   "connect", cause: []string{"the uplink is dead: 192.0.2.1 does not answer ARP"},
		remedy: "ip -n inet link set lan0 arp on",
	},
	"dropped beyond the host": {
		inject: "ip netns exec inet " + nftables(`table inet f { chain i { type filter hook input priority 0; meta l4proto tcp drop; }; }`),
		step:   "connect", cause: []string{"the host itself gets no answer from 203.0.113.1 either: the fault is beyond this host"},
	},
	"kill-switch of a VPN": {
		inject: nftables(`table inet mullvad { chain forward { type filter hook forward priority 0; policy drop; oifname "wg0-mullvad" accept; }; }`),
		step:   "connect", cause: []string{"drop at forward: table inet mullvad chain forward policy DROP (Mullvad VPN)", "on purpose"},
	},
}

// The first step that a fault breaks names it. The remedy in its cause helps. The probe
// leaves the host as it was, with the fault.
func TestFaults(t *testing.T) {
	for name, f := range faults {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) { inLab(t, f.test) })
	}
}

func (f fault) test(l *testHost) {
	lab.Require(l, lab.Legacy, lab.Program("iptables-nft"))
	n := keeper.Network{Mode: cmp.Or(f.mode, profiles.NAT)}
	if n.Mode.HasSubnet() {
		n.Subnet = netip.MustParsePrefix("10.77.0.0/24")
	}
	if n.Mode == profiles.Bridge {
		lab.FreeNIC(l, filepath.Dir(l.o.RunDir))
		n.Uplink = "lan0"
	}
	lab.Sh(l, "DIR="+filepath.Dir(l.o.RunDir)+"\n"+f.inject)
	before := lab.Snapshot(l, l.o.RunDir)
	report := f.probe(l, n)
	f.check(l.T, report)
	before.Check(l)
	switch f.remedy {
	case "":
		return
	case said:
		lab.Sh(l, narrow(l, stepOf(report, f.step).Cause))
	default:
		lab.Sh(l, f.remedy)
	}
	if s := stepOf(f.probe(l, n), f.step); s.Outcome != Pass {
		l.Errorf("after the remedy: %+v", s)
	}
}

// narrow returns the commands of a cause. Each lets guests reach DNS or ping at the gateway's address, or
// answer; none lets them reach other ports of the host.
func narrow(l *testHost, cause string) string {
	l.Helper()
	_, commands, ok := strings.Cut(cause, ": accept what guests need of the host, and no more, with: ")
	for command := range strings.SplitSeq(commands, "; ") {
		if !strings.Contains(command, "10.77.0.1") || !regexp.MustCompile(`dport 53 |icmp type echo-request |--icmp-type 8 |established`).MatchString(command) {
			ok = false
		}
	}
	if !ok {
		l.Errorf("the cause opens more than guests need, or says nothing: %s", cause)
	}
	return commands
}

func (f fault) probe(l *testHost, n keeper.Network) Report {
	l.Helper()
	if f.hide {
		for _, name := range []string{"iptables-nft", "iptables-legacy"} {
			path, err := exec.LookPath(name)
			if err == nil {
				path, err = filepath.EvalSymlinks(path)
			}
			if err != nil {
				l.Fatal(err)
			}
			lab.Sh(l, "mount --bind /dev/null "+path)
			defer lab.Sh(l, "umount "+path)
		}
	}
	return l.probe(n)
}

func (f fault) check(t *testing.T, r Report) {
	t.Helper()
	s := stepOf(r, f.step)
	if s.Outcome != Fail {
		t.Errorf("%s: %s, want it to fail", f.step, s.Outcome)
	}
	for _, want := range f.cause {
		if !strings.Contains(s.Cause, want) {
			t.Errorf("%s: no %q in %q", f.step, want, s.Cause)
		}
	}
	if strings.Contains(s.Cause, "\n") {
		t.Errorf("more than a line: %q", s.Cause)
	}
}

func stepOf(r Report, name string) Step {
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{Name: name}
}

// Without a trace a probe reads the rules.
func TestUntraced(t *testing.T) {
	for name, want := range map[string]struct{ step, cause string }{
		"input of nftables":          {"gateway ping", "drop at input: table inet f chain i policy DROP"},
		"forward of iptables-legacy": {"connect", "drop at forward: iptables-legacy table ip filter chain FORWARD policy DROP"},
		"kill-switch of a VPN":       {"connect", "drop at forward: table inet mullvad chain forward policy DROP"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			if strings.Contains(name, "-legacy") {
				lab.Require(t, lab.Legacy)
			}
			inLab(t, func(l *testHost) {
				f := faults[name]
				f.step, f.cause = want.step, []string{want.cause}
				lab.Sh(t, f.inject)
				l.untraced = true
				f.check(t, f.probe(l, keeper.Network{Mode: profiles.NAT}))
			})
		})
	}
}
