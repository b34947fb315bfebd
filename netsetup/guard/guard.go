// Package guard decides what a guest may send: an nftables table for each port of a VM drops
// the frames by which a guest would pass for another one, for the network's router or for its
// DHCP server, and counts them by their reason.
//
// The table hangs on the port alone, at the first hook that its frames meet (ingress of a
// tap, egress of a macvtap link). So another port's frames cost nothing, a bridge learns no
// address of a dropped frame, and the kernel takes the hook away with the link, in whichever
// way the VM ends.
//
// The package is pure; its values may be used concurrently.
package guard

import (
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Port is what a guard must know of a port.
type Port struct {
	Link    string           // its name
	Mark    string           // host.PortMark
	Macvtap bool             // a macvtap link and no tap
	MAC     net.HardwareAddr // the guest's own
	// Addresses are the guest's own of IPv4. Empty allows every address, of IPv6 as well: on
	// a LAN and on a private network qnet gives none.
	Addresses []netip.Addr
	// Prefix6 is the network's IPv6 prefix, not valid without, Router its router's link-local
	// address, and Addresses6 are the guest's own of IPv6, but for its link-local one.
	Prefix6    netip.Prefix
	Router     netip.Addr
	Addresses6 []netip.Addr
	// LAN allows frames that only other machines than the host understand: VLAN tags of one
	// level, and any EtherType.
	LAN bool
}

// The reasons for which frames are dropped, as the counters are called.
const (
	ForeignMAC     = "another source MAC than its own"
	ForeignARP     = "ARP with an address that is not its own"
	ForeignIP      = "an IPv4 source that is not its own"
	ForeignIP6     = "an IPv6 source that is not its own, or a first fragment without its headers"
	ForeignTarget  = "neighbour discovery of an address that is not its own"
	OtherProtocol  = "a VLAN tag, or another protocol than IP and ARP"
	HiddenProtocol = "stacked VLAN tags, or a frame without EtherType"
	ServesDHCP     = "what a DHCP server sends"
	Routes         = "a router advertisement or redirect"
	HidesHeader    = "a first fragment of IPv6 without its headers"
)

// Chain is the chain of a guard's table.
const Chain = "from_guest"

// TableName is the name of the table of a port. No network's table has it: the name of a
// network has no "_".
func TableName(port string) string { return "qnet_guard_" + port }

// Table returns the guard of the port.
func (p Port) Table() nft.Table {
	chain := nft.Chain{Name: Chain, Type: "filter", Hook: nft.Ingress, Device: p.Link, Priority: priority, Policy: nft.Drop}
	if p.Macvtap {
		chain.Hook = nft.Egress
	}
	chain.Rules = p.rules()
	table := nft.Table{Family: nft.NetDev, Name: TableName(p.Link), Comment: p.Mark, Chains: []nft.Chain{chain}}
	if p.Prefix6.IsValid() {
		table.Sets = []nft.Set{{Name: OwnSet, IPv6: true, Addresses: p.Own()}}
	}
	return table
}

// priority comes before that of other programs' chains on the link.
const priority = -300

func (p Port) rules() []nft.Rule {
	rules := []nft.Rule{drop(ForeignMAC, nft.IsNot(nft.EtherSource, nft.MACValue(p.MAC)))}
	rules = append(rules, p.protocols()...)
	rules = append(rules,
		drop(ServesDHCP, nft.Is(nft.Transport, "udp"), nft.Is(nft.UDPSource, "67", "547")),
		// A client of DHCP looks at the destination alone.
		drop(ServesDHCP, nft.Is(nft.Transport, "udp"), nft.Is(nft.UDPDest, "68", "546")))
	rules = append(rules, p.ip()...)
	rules = append(rules, p.arp()...)
	rules = append(rules, drop(Routes, nft.Is(nft.Transport, "ipv6-icmp"), nft.Is(nft.ICMPv6Type, "134", "137")))
	return append(rules, p.ip6()...)
}

// protocols drop frames whose contents the other rules would not see, and systems still read
// (CVE-2021-27853, CVE-2021-27854, CVE-2021-27861, CVE-2021-27862). The rules see through one
// VLAN tag of a tap's frame, because the kernel has taken it off by then, and through none of
// a macvtap link's.
func (p Port) protocols() []nft.Rule {
	if p.LAN {
		return []nft.Rule{
			drop(HiddenProtocol, nft.Is(nft.Protocol, "8021q", "8021ad", "0x0001", "0x0004")),
			drop(HiddenProtocol, nft.IsBelow(nft.EtherType, "0x0600")),
		}
	}
	// RARP is what QEMU tells bridges with, by the guest's MAC, when a saved guest goes on.
	var others []nft.Match
	for _, known := range []string{"0x0800", "0x86dd", "0x0806", rarp} {
		others = append(others, nft.IsNot(nft.EtherType, known))
	}
	return []nft.Rule{drop(OtherProtocol, others...)}
}

const rarp = "0x8035" // EtherType of RARP (RFC 903)

func (p Port) ip() []nft.Rule {
	if len(p.Addresses) == 0 {
		return []nft.Rule{accept(nft.Is(nft.Protocol, "ip"))}
	}
	unspecified := []nft.Match{nft.Is(nft.Protocol, "ip"), nft.Is(nft.IPSource, "0.0.0.0")}
	return []nft.Rule{
		accept(nft.Is(nft.Protocol, "ip"), nft.Is(nft.IPSource, p.addresses()...)),
		accept(with(unspecified, nft.Is(nft.IPDest, "255.255.255.255"), nft.Is(nft.Transport, "udp"), nft.Is(nft.UDPSource, "68"), nft.Is(nft.UDPDest, "67"))...),
		accept(with(unspecified, nft.Is(nft.Transport, "igmp"))...), // of a guest that has no address yet
		drop(ForeignIP, nft.Is(nft.Protocol, "ip")),
	}
}

func (p Port) addresses() []string {
	var list []string
	for _, a := range p.Addresses {
		list = append(list, a.String())
	}
	return list
}

// arp allows what the guest says of itself, and probes, whose sender is 0.0.0.0 (RFC 5227).
func (p Port) arp() []nft.Rule {
	own := []nft.Match{
		nft.Is(nft.Protocol, "arp"), nft.Is(nft.ARPHardware, "1"), nft.Is(nft.ARPProtocol, "ip"),
		nft.Is(nft.ARPHardwareLen, "6"), nft.Is(nft.ARPProtocolLen, "4"), nft.Is(nft.ARPSenderMAC, p.MAC.String()),
	}
	if len(p.Addresses) > 0 {
		own = append(own, nft.Is(nft.ARPSenderIP, append(p.addresses(), "0.0.0.0")...))
	}
	return []nft.Rule{accept(own...), drop(ForeignARP, nft.Is(nft.Protocol, "arp")), accept(nft.Is(nft.Protocol, rarp))}
}

// ip6 ends the chain. What it accepts has told its protocol and port or type: these fields
// are not there where a first fragment ends before its headers do (RFC 7113).
func (p Port) ip6() []nft.Rule {
	if len(p.Addresses) == 0 {
		rules := whole(nft.Is(nft.Protocol, "ip6"))
		return append(rules, drop(HidesHeader, nft.Is(nft.Protocol, "ip6")), accept())
	}
	if p.Prefix6.IsValid() {
		return p.withPrefix()
	}
	local := linkLocal(p.MAC)
	unspecified := []nft.Match{nft.Is(nft.Protocol, "ip6"), nft.Is(nft.IP6Source, "::"), nft.Is(nft.Transport, "ipv6-icmp")}
	own := []nft.Match{nft.Is(nft.Protocol, "ip6"), nft.Is(nft.IP6Source, local.String())}
	advertises := []nft.Match{nft.Is(nft.Transport, "ipv6-icmp"), nft.Is(nft.ICMPv6Type, "136")}
	target := nft.Is(nft.NDTarget, nft.IP6Value(local))
	rules := []nft.Rule{
		accept(with(unspecified, nft.Is(nft.ICMPv6Type, "135"), target)...), // is the address free?
		drop(ForeignTarget, with(unspecified, nft.Is(nft.ICMPv6Type, "135"))...),
		accept(with(own, append(advertises, target)...)...),
		drop(ForeignTarget, advertises...),
		accept(with(unspecified, nft.Is(nft.ICMPv6Type, "131", "132", "133", "143"))...), // groups, and a search for routers
	}
	return append(append(rules, whole(own...)...), drop(ForeignIP6))
}

// whole accepts what has these matches and its headers in front, and later fragments of that.
func whole(m ...nft.Match) []nft.Rule {
	return []nft.Rule{
		accept(with(m, nft.IsNot(nft.Transport, "udp", "ipv6-icmp"))...),
		accept(with(m, nft.Is(nft.Transport, "udp"), nft.IsNot(nft.UDPDest, "546"))...),
		accept(with(m, nft.Is(nft.Transport, "ipv6-icmp"), nft.IsNot(nft.ICMPv6Type, "134"))...),
		accept(with(m, nft.IsNot(nft.FragmentOffset, "0"))...),
	}
}

func with(m []nft.Match, more ...nft.Match) []nft.Match { return append(slices.Clip(m), more...) }

// linkLocal is the address that a guest makes of its MAC (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func drop(why string, m ...nft.Match) nft.Rule { return nft.Rule{Frame: m, Counts: why, Do: nft.Drop} }

func accept(m ...nft.Match) nft.Rule { return nft.Rule{Frame: m, Do: nft.Accept} }
