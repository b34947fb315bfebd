package nft

import (
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// everything uses each match and action once.
func everything() []Table {
	p := netip.MustParsePrefix
	return []Table{
		{Family: INet, Name: "qnet_t", Comment: "qnet:t", Sets: []Set{{Name: "uplinks", Links: []string{"eth0"}}, {Name: "empty"}, {Name: "ports", Links: []string{"br0", "qn-lan"}, Pairs: true}}, Chains: []Chain{
			{Name: "through_host", Type: "filter", Hook: Forward, Policy: Accept, Rules: []Rule{
				{InLink: Link("qn-t"), OutLink: Link("qn-t"), Do: Accept},
				{InLink: Link("qn-t"), Source: p("10.1.2.0/24"), Do: Accept},
				{InLink: Link("qn-t"), UDPPort: 67, Do: Drop},
				{InLink: Link("qn-t"), Source: p("10.1.2.128/25"), Do: Accept},
				{OutLink: Link("qn-t"), Established: true, Do: Accept},
				{OutLink: Link("qn*"), DNAT: true, Do: Accept},
				{InLink: Link("@uplinks"), OutLink: NotLink("qn*"), Do: Drop},
				{InLink: NotLink("eth0"), Do: Drop},
				{InLink: Link("@ports"), OutLink: Link("@ports"), Pair: true, Do: Accept},
				{Dest: p("10.1.2.3/32"), Do: TracePacket},
			}},
			{Name: "clamp", Type: "filter", Hook: Forward, Priority: -150, Policy: Accept, Rules: []Rule{{InLink: Link("qn-t"), SYN: true, Do: ClampMSS}}},
			{Name: "from_guests", Type: "filter", Hook: Input, Policy: Drop, Rules: []Rule{{Source: p("0.0.0.0/32"), Do: Accept}}},
			{Name: "masq", Type: "nat", Hook: Postrouting, Priority: 100, Policy: Accept, Rules: []Rule{
				{OutLink: NotLink("qn-t"), Source: p("10.1.2.0/24"), TCPUDP: true, Do: MasqueradePorts},
				{OutLink: NotLink("qn-t"), Source: p("10.1.2.0/24"), Do: Masquerade},
			}},
		}},
		{Family: INet, Name: "qnet_lan_t", Comment: "qnet:t", Sets: []Set{
			{Name: "lan4", Of: IP, Prefixes: []netip.Prefix{p("10.0.0.0/8"), p("192.0.2.7/32"), p("224.0.0.0/3")}},
			{Name: "lan6", Of: IP6, Prefixes: []netip.Prefix{p("::/32"), p("fc00::/7"), p("ff00::/8")}},
			{Name: "no4", Of: IP},
			{Name: "names4", Of: IP, Timeout: true},
			{Name: "names6", Of: IP6, Timeout: true},
		}, Chains: []Chain{
			{Name: "from_guest", Type: "filter", Hook: Forward, Policy: Accept, Rules: []Rule{
				{Frame: []Match{IsNot(EtherSource, "0x525400213456")}, Do: Accept},
				{Frame: []Match{Is(EtherDest, "0x525400213456")}, Counts: "around", Do: Drop},
				{Frame: []Match{Is(IPVersion, "ipv4"), IsNot(IPDest, "@lan4")}, Do: Accept},
				{Frame: []Match{Is(IPVersion, "ipv6"), IsNot(IP6Dest, "@lan6")}, Do: Accept},
				{Frame: []Match{Is(IPVersion, "ipv4"), Is(IPDest, "@no4"), Is(Transport, "tcp")}, Do: RejectTCP},
				{Frame: []Match{Is(IPVersion, "ipv4"), Is(IPDest, "@names4"), Is(Transport, "tcp", "udp"), Is(DestPort, "443")}, Do: Accept},
				{Frame: []Match{Is(IPVersion, "ipv6"), Is(IP6Dest, "@names6"), Is(Transport, "ipv6-icmp"), Is(ICMPv6Type, "128")}, Do: Accept},
				{Frame: []Match{Is(IPVersion, "ipv6"), Is(IP6Dest, "fd00::1"), Is(Transport, "tcp", "udp"), Is(DestPort, "53", "54")}, Do: Accept},
				{Dest: p("2001:db8::/32"), Frame: []Match{Is(Transport, "tcp"), Is(DestPort, "22")}, Do: Accept},
				{Frame: []Match{Is(IPVersion, "ipv4"), Is(Transport, "icmp"), Is(ICMPType, "8")}, Do: Accept},
				{Frame: []Match{Is(Transport, "tcp")}, Do: RejectTCP},
				{Do: Reject},
			}},
			{Name: "own_resolver", Type: "nat", Hook: Prerouting, Priority: -100, Policy: Accept, Rules: []Rule{
				{InLink: Link("qn-t"), Frame: []Match{Is(EtherSource, "0x525400213456"), Is(Transport, "tcp"), Is(DestPort, "53")}, Do: RedirectDNS},
			}},
		}},
		{Family: NetDev, Name: "qnet_t", Comment: "qnet:t", Chains: []Chain{
			{Name: "to_host", Type: "filter", Hook: Ingress, Device: "lo", Priority: -300, Policy: Drop},
			{Name: "from_guest", Type: "filter", Hook: Ingress, Device: "lo", Priority: -299, Policy: Drop, Rules: everyMatch()},
			{Name: "to_uplink", Type: "filter", Hook: Egress, Device: "lo", Priority: -300, Policy: Accept, Rules: everyMatch()},
		}},
		{Family: Bridge, Name: "qnet_t", Comment: "qnet:t", Chains: []Chain{
			{Name: "from_guest", Type: "filter", Hook: Prerouting, Priority: -1000, Policy: Accept, Rules: []Rule{{InLink: Link("qnt0"), Do: TracePacket}}},
			{Name: "to_guest", Type: "filter", Hook: Output, Priority: -1000, Policy: Accept, Rules: []Rule{{OutLink: Link("qnt0"), Do: TracePacket}}},
		}},
	}
}

// everyMatch uses each field once, with one value and with several where it may have several.
func everyMatch() []Rule {
	const (
		mac  = "52:54:00:21:34:56"
		six  = "fe80::5054:ff:fe21:3456"
		four = "10.1.2.3"
	)
	drop := func(why string, m ...Match) Rule { return Rule{Frame: m, Counts: why, Do: Drop} }
	accept := func(m ...Match) Rule { return Rule{Frame: m, Do: Accept} }
	icmp6 := []Match{Is(Protocol, "ip6"), Is(IP6Source, six), Is(Transport, "ipv6-icmp")}
	return []Rule{
		drop("foreign MAC", IsNot(EtherSource, MACValue(net.HardwareAddr{0x52, 0x54, 0, 0x21, 0x34, 0x56}))),
		drop("another protocol", IsNot(EtherType, "0x0800"), IsNot(EtherType, "0x86dd")),
		drop("no EtherType", IsBelow(EtherType, "0x0600")),
		drop("VLAN", Is(Protocol, "8021q", "8021ad", "0x0001", "0x0004")),
		accept(Is(Protocol, "arp"), Is(ARPHardware, "1"), Is(ARPProtocol, "ip"), Is(ARPHardwareLen, "6"), Is(ARPProtocolLen, "4"),
			Is(ARPSenderMAC, mac), Is(ARPSenderIP, "0.0.0.0", four)),
		drop("server", Is(Transport, "udp"), Is(UDPSource, "67", "547")),
		drop("server", Is(Transport, "udp"), Is(UDPDest, "68", "546")),
		accept(Is(Protocol, "ip"), Is(IPSource, four, "10.1.2.4"), Is(IPDest, "255.255.255.255"), Is(Transport, "udp"), Is(UDPSource, "68")),
		accept(Is(Protocol, "ip"), Is(IPSource, "0.0.0.0"), Is(Transport, "igmp")),
		accept(append(icmp6[:3:3], IsNot(ICMPv6Type, "134", "137"))...),
		accept(append(icmp6[:3:3], Is(ICMPv6Type, "135"), Is(NDTarget, IP6Value(netip.MustParseAddr(six))))...),
		accept(append(icmp6[:3:3], IsNot(FragmentOffset, "0"))...),
		accept(Is(Protocol, "ip6"), Is(IP6Source, "::", six), IsNot(Transport, "ipv6-icmp")),
		drop("the rest"),
	}
}

// inNetNS runs f on a thread of a network namespace of its own, which the
// runtime throws away afterwards.
func inNetNS(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		f()
	}()
	<-done
}

func nftProgram(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("nft %v: %v\n%s\n%s", args, err, out, stdin)
	}
	return string(out)
}

// flagsLine is how nft lists the owner and persist flags, which its text syntax
// cannot ask for without losing the table when nft exits.
var flagsLine = regexp.MustCompile(`(?m)^\tflags .*\n|^# Warning: table .*\n| # progname .*$`)

func listing(t *testing.T) string {
	text := flagsLine.ReplaceAllString(nftProgram(t, "", "list", "ruleset"), "")
	return strings.ReplaceAll(text, "\n\n", "\n") // nft sets the flags line off
}

func TestTextAndNetlinkAgree(t *testing.T) { lab.Run(t, textAndNetlinkAgree) }

func textAndNetlinkAgree(t *testing.T) {
	var byText, byNetlink string
	inNetNS(t, func() {
		for _, table := range everything() {
			nftProgram(t, table.String(), "-f", "-")
		}
		byText = listing(t)
	})
	inNetNS(t, func() {
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for range 2 { // adding again replaces
			for _, table := range everything() {
				if err := c.Add(table); err != nil {
					t.Error(err)
				}
			}
		}
		byNetlink = listing(t)
		for _, table := range everything() {
			if err := c.Delete(table.Family, table.Name, table.Comment); err != nil {
				t.Error(err)
			}
		}
		if left := listing(t); left != "" {
			t.Errorf("left after delete:\n%s", left)
		}
	})
	if byText != byNetlink {
		t.Errorf("by text:\n%s\nby netlink:\n%s", byText, byNetlink)
	}
	if strings.Count(byNetlink, "\n") < 30 {
		t.Errorf("listing too short:\n%s", byNetlink)
	}
}

func TestForeignTableIsLeftAlone(t *testing.T) { lab.Run(t, foreignTableIsLeftAlone) }

func foreignTableIsLeftAlone(t *testing.T) {
	inNetNS(t, func() {
		nftProgram(t, "add table inet qnet_t\nadd chain inet qnet_t mine\n", "-f", "-")
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		before := listing(t)
		table := everything()[0]
		if err := c.Add(table); err == nil {
			t.Error("added over a foreign table")
		}
		if err := c.Delete(table.Family, table.Name, table.Comment); err == nil {
			t.Error("deleted a foreign table")
		}
		if after := listing(t); after != before {
			t.Errorf("foreign table changed:\n%s", after)
		}
	})
}

// The owner's table survives another program's flush, and its owner's end.
func TestOwnedTableSurvivesFlush(t *testing.T) { lab.Run(t, ownedTableSurvivesFlush) }

func ownedTableSurvivesFlush(t *testing.T) {
	inNetNS(t, func() {
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		table := everything()[0]
		if err := c.Add(table); err != nil {
			t.Error(err)
		}
		before := listing(t)
		nftProgram(t, "", "flush", "ruleset")
		if after := listing(t); after != before {
			t.Skip("this kernel has no owner flag")
		}
		c.Close()
		if after := listing(t); after != before {
			t.Errorf("table gone with its owner:\n%s", after)
		}
		next, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer next.Close()
		if err := next.Delete(table.Family, table.Name, table.Comment); err != nil {
			t.Error(err)
		}
		if left := listing(t); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}
