package kernel

import (
	"cmp"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// noise is what differs though the state is the same: indexes, a tap's random MAC and its
// operational state, which follows no carrier; and what commands cannot make: taps that end
// with their last file, tables with an owner.
var noise = strings.NewReplacer(" persist on", "", " persist off", "")

var (
	noisy    = regexp.MustCompile(`^(link|addr): \d+: |^nft: \t(flags|comment) .*|# progname .*|^nft: # Warning.*|^(packet|nft: $).*`)
	tapState = regexp.MustCompile(`(qnweb0: .*) state (?:UNKNOWN|UP) (.* link/ether )\S+`)
	ifIndex  = regexp.MustCompile(`@if\d+`)
	nftMarks = regexp.MustCompile(`^nft: table (\S+ \S+) \{.*`)
)

// kernelState returns what the kernel lists of everything, without noise.
func kernelState(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, line := range lab.Snapshot(t).Lines() {
		line = noise.Replace(noisy.ReplaceAllString(line, "$1"))
		line = ifIndex.ReplaceAllString(tapState.ReplaceAllString(line, "$1$2"), "")
		lines = append(lines, nftMarks.ReplaceAllString(line, "nft: table $1"))
	}
	slices.Sort(lines)
	return lines
}

func difference(a, b []string) string {
	var d strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			d.WriteString("- " + line + "\n")
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			d.WriteString("+ " + line + "\n")
		}
	}
	return d.String()
}

// becomes waits until the kernel's state is the wanted one, and returns how it differs.
func becomes(t *testing.T, want []string, words string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if diff = difference(want, kernelState(t)); diff == "" {
			return
		}
	}
	t.Errorf("%s\n%s", words, diff)
}

// hold opens the tap that ip(8) made, as QEMU would, so that it has a carrier.
func hold(t *testing.T, tap string) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(tap)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	return f
}

// The commands that a plan prints make the same kernel state as applying it, and so do the
// undo commands.
func TestCommandsEqualNetlink(t *testing.T) {
	for _, n := range []plan.Network{
		{Name: "private", Mode: profiles.Private},
		{Name: "host-only", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.91.0.0/24")},
		{Name: "nat", Mode: profiles.NAT},
		{Name: "host-only6", Mode: profiles.HostOnly, IPv6: true},
		{Name: "nat6", Mode: profiles.NAT, IPv6: true, Subnet6: netip.MustParsePrefix("fd12:3456:789a:1::/64")},
		{Name: "pinned", Mode: profiles.NAT, Uplink: "lan0"},
		{Name: "jumbo", Mode: profiles.NAT, MTU: 9000},
		{Name: "bridge", Mode: profiles.Bridge, Uplink: "lan0"},
		{Name: "macvtap", Mode: profiles.Bridge, Macvtap: true},
		{Name: "move", Mode: profiles.Bridge, Uplink: "eth0"},
	} {
		t.Run(n.Name, func(t *testing.T) {
			if n.Macvtap {
				lab.Require(t, lab.Root)
			}
			lab.Require(t, lab.Tun, lab.Program("nft"), lab.Program("iptables-nft"), lab.Legacy)
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				// Up once, because a link keeps a queueing discipline from then on.
				lab.Sh(t, "ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up; "+
					"until ip link show lan1 | grep -q 'state UP'; do sleep 0.05; done; ip link set lan0 down; "+
					"until ip -6 route show table local dev lan1 | grep -q linkdown; do sleep 0.05; done")
				// Others whose drops are answered, one in each engine.
				lab.Sh(t, "iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP; ip6tables-legacy -P FORWARD DROP")
				if n.Name == "pinned" {
					lab.Sh(t, "ip link set lan0 up; ip addr add 198.51.100.10/24 dev lan0; ip route add default via 198.51.100.1 metric 500; sysctl -qw net.ipv4.conf.lan0.rp_filter=1")
				}
				if n.Name == "move" {
					lab.Sh(t, rich)
					lab.Eventually(t, 5*time.Second, "IPv6 addresses are checked", func() bool { return lab.Sh(t, "ip -6 addr show tentative") == "" })
				}
				compareWays(t, n)
			})
		})
	}
}

// rich gives eth0 what a host can have by a NIC. lan0 is a second way out.
const rich = `
ip link set lan0 up; ip link set lan1 up; ip addr add 198.51.100.10/24 dev lan0
sysctl -qw net/ipv4/conf/eth0/arp_notify=1 net/ipv6/conf/eth0/accept_ra=0 net/ipv6/conf/eth0/hop_limit=70 net/ipv4/neigh/eth0/gc_stale_time=70
ip addr add 192.0.2.11/24 dev eth0 label eth0:1
ip addr add 192.0.2.12/25 broadcast + dev eth0 scope link
ip addr add 10.1.0.1/31 dev eth0 metric 50
ip addr add 10.2.0.1 peer 10.2.0.2/32 dev eth0
ip addr add 10.3.0.1/24 dev eth0 noprefixroute
ip addr add 10.4.0.1/32 dev eth0 valid_lft forever preferred_lft 0
ip addr add 2001:db8:7::10/64 dev eth0 nodad
ip addr add 2001:db8:8::10/64 dev eth0 noprefixroute; ip addr add fe80::10/64 dev eth0
ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
ip neigh add proxy 192.0.2.78 dev eth0
ip route add 10.9.0.1 dev eth0 scope link
ip route add default via 10.9.0.1 dev eth0 onlink table 9 metric 3
ip route add 10.10.0.0/16 via 192.0.2.1 src 192.0.2.11 mtu 1400 advmss 1300 metric 7
ip route add 10.11.0.0/16 nexthop via 192.0.2.1 weight 2 nexthop via 198.51.100.1 dev lan0 weight 3
ip route add 10.12.0.0/16 via inet6 fe80::1 dev eth0 proto static
ip route add 10.13.0.0/16 dev eth0 tos 0x10 window 9000
ip route add local 10.14.0.0/16 dev eth0 table 10
ip route add blackhole 10.15.0.0/16 metric 4
ip route add 10.16.0.0/16 dev eth0; ip route append 10.16.0.0/16 dev lan0
ip route add 10.17.0.0/16 dev lan0; ip route append 10.17.0.0/16 dev eth0
ip -6 route add default via 2001:db8:7::1 metric 5
ip -6 route add 2001:db8:9::/48 nexthop via 2001:db8:7::1 dev eth0 weight 1 nexthop via fe80::9 dev lan0 weight 2
ip -6 route add 2001:db8:a::/48 dev eth0 table 9 mtu 1300 pref low
ip rule add from 10.3.0.0/24 iif eth0 lookup 9 priority 100
ip rule add to 10.4.0.0/24 oif eth0 fwmark 0x5/0xff blackhole priority 101
ip -6 rule add iif eth0 lookup 9 priority 100`

func compareWays(t *testing.T, n plan.Network) {
	t.Helper()
	q := n.Query()
	q.Ask = q.LAN
	facts, err := host.Observe(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	planned, err := plan.New(n, facts, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	nic := plan.NIC{VM: "web", Index: 0, MAC: hosttest.GuestMAC}
	if planned.Prefix.IsValid() {
		nic.Addresses = []netip.Addr{planned.Gateway.Next()}
	}
	if planned.Prefix6.IsValid() {
		nic.Addresses6 = []netip.Addr{ula.Guest(planned.Prefix6, nic.Addresses[0]), ula.EUI64(planned.Prefix6, hosttest.GuestMAC)}
	}
	switch n.Mode {
	case profiles.NAT:
		nic.Reach = reach.Policy{Isolated: true, NoHost: true, NoLAN: true}
		if n.Name == "nat" {
			nic.Reach.Listed = true
			for _, text := range []string{"deb.debian.org", "*.github.com:443", "192.0.2.0/24:22", "198.51.100.9:5432/tcp", "[2001:db8::/33]:53/udp", "203.0.113.0/24", "!10.0.0.0/8", "!2001:db8:1::/48"} {
				e, err := reach.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				nic.Reach.Entries = append(nic.Reach.Entries, e)
			}
		}
	case profiles.Private:
		nic.Reach.Isolated = true
	}
	steps := slices.Concat(planned.Steps, planned.PortSteps(nic))
	if planned.Prefix.IsValid() {
		steps = append(steps, planned.ForwardSteps(nic.Addresses[0], []forward.Forward{
			{Proto: "tcp", Port: 8080, Guest: 80}, {Proto: "udp", Address: netip.MustParseAddr("192.0.2.10"), Port: 53, Guest: 53},
		})...)
	}
	before := kernelState(t)

	host := newHost(t)
	if err := apply.Do(t.Context(), host.Kernel(), steps, nil); err != nil {
		t.Fatal(err)
	}
	var byNetlink []string
	lab.Eventually(t, 5*time.Second, "the carrier", func() bool {
		byNetlink = kernelState(t)
		return strings.Contains(lab.Sh(t, "ip link show "+cmp.Or(planned.Bridge, "qnweb0")), "state UP")
	})
	byNetlink = kernelState(t)
	if err := apply.Undo(t.Context(), host.Kernel(), steps); err != nil {
		t.Fatal(err)
	}
	host.Close()
	becomes(t, before, "-: before, +: after Undo")

	lab.Sh(t, steptest.Script(steps))
	if !n.Macvtap {
		tap := hold(t, "qnweb0")
		defer tap.Close()
	}
	becomes(t, byNetlink, "-: by netlink, +: by the printed commands")
	if len(byNetlink) < len(before)+10 {
		t.Errorf("the plan added %d lines only", len(byNetlink)-len(before))
	}
	lab.Sh(t, apply.UndoScript(steps))
	becomes(t, before, "-: before, +: after the undo commands")
}
