package guard_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

var mac = net.HardwareAddr{0x52, 0x54, 0, 0x21, 0x34, 0x56}

// The guard of a guest on a network that gives addresses.
func ExamplePort_Table() {
	p := guard.Port{Link: "qnweb0", Mark: "qnet:dev/web/0", MAC: mac, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.9")}}
	for _, r := range p.Table().Chains[0].Rules {
		fmt.Println(r)
	}
	// Output:
	// @ll,48,48 != 0x525400213456 counter drop comment "another source MAC than its own"
	// @ll,96,16 != 0x0800 @ll,96,16 != 0x86dd @ll,96,16 != 0x0806 @ll,96,16 != 0x8035 counter drop comment "a VLAN tag, or another protocol than IP and ARP"
	// meta l4proto udp udp sport { 67, 547 } counter drop comment "what a DHCP server sends"
	// meta l4proto udp udp dport { 68, 546 } counter drop comment "what a DHCP server sends"
	// meta protocol ip ip saddr 10.77.0.9 accept
	// meta protocol ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 meta l4proto udp udp sport 68 udp dport 67 accept
	// meta protocol ip ip saddr 0.0.0.0 meta l4proto igmp accept
	// meta protocol ip counter drop comment "an IPv4 source that is not its own"
	// meta protocol arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp saddr ether 52:54:00:21:34:56 arp saddr ip { 10.77.0.9, 0.0.0.0 } accept
	// meta protocol arp counter drop comment "ARP with an address that is not its own"
	// meta protocol 0x8035 accept
	// meta l4proto ipv6-icmp icmpv6 type { 134, 137 } counter drop comment "a router advertisement or redirect"
	// meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135 @th,64,128 0xfe80000000000000505400fffe213456 accept
	// meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135 counter drop comment "neighbour discovery of an address that is not its own"
	// meta protocol ip6 ip6 saddr fe80::5054:ff:fe21:3456 meta l4proto ipv6-icmp icmpv6 type 136 @th,64,128 0xfe80000000000000505400fffe213456 accept
	// meta l4proto ipv6-icmp icmpv6 type 136 counter drop comment "neighbour discovery of an address that is not its own"
	// meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type { 131, 132, 133, 143 } accept
	// meta protocol ip6 ip6 saddr fe80::5054:ff:fe21:3456 meta l4proto != { udp, ipv6-icmp } accept
	// meta protocol ip6 ip6 saddr fe80::5054:ff:fe21:3456 meta l4proto udp udp dport != 546 accept
	// meta protocol ip6 ip6 saddr fe80::5054:ff:fe21:3456 meta l4proto ipv6-icmp icmpv6 type != 134 accept
	// meta protocol ip6 ip6 saddr fe80::5054:ff:fe21:3456 frag frag-off != 0 accept
	// counter drop comment "an IPv6 source that is not its own, or a first fragment without its headers"
}

// A guard drops what no rule accepts, and hangs where the guest's frames come in.
func TestTable(t *testing.T) {
	for _, p := range []guard.Port{
		{Link: "qnweb0", MAC: mac},
		{Link: "qnweb0", MAC: mac, LAN: true},
		{Link: "qnweb0", MAC: mac, LAN: true, Macvtap: true},
		{Link: "qnweb0", MAC: mac, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("10.77.0.10")}},
	} {
		table := p.Table()
		chain := table.Chains[0]
		hook := nft.Ingress
		if p.Macvtap {
			hook = nft.Egress
		}
		if table.Family != nft.NetDev || table.Name != guard.TableName(p.Link) || chain.Name != guard.Chain || chain.Hook != hook || chain.Device != p.Link || chain.Policy != nft.Drop {
			t.Errorf("%+v: got %s", p, table)
		}
		if first := chain.Rules[0]; first.Counts != guard.ForeignMAC || first.Do != nft.Drop {
			t.Errorf("%+v: the first rule is %s", p, first)
		}
		for _, r := range chain.Rules {
			if (r.Do == nft.Drop) != (r.Counts != "") {
				t.Errorf("%+v: %s: what is dropped is counted", p, r)
			}
		}
	}
}
