package ula

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// BridgeSysctls turn IPv6 on for a network's bridge, before it is up: by nothing that a guest
// sends does the host configure itself (RFC 4861, 6.2.7 and 8.1; RFC 4862). Its link-local address
// is that of its MAC, which router advertisements tell, and needs no check for duplicates: a guest
// that claims it would take it from the host (RFC 4862, section 5.4.5).
func BridgeSysctls(bridge string) step.List {
	var steps step.List
	for _, kv := range [][2]string{
		{"accept_ra", "0"}, {"autoconf", "0"}, {"accept_redirects", "0"}, {"addr_gen_mode", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"},
	} {
		steps = append(steps, step.SetSysctl{Key: host.IPv6Key(bridge, kv[0]), Value: kv[1]})
	}
	return steps
}

// unspecified is the source of a guest that has no address yet (RFC 4861, section 4.3).
var unspecified = netip.PrefixFrom(netip.IPv6Unspecified(), 128)

// InputRules let guests speak to the host from addresses of the prefix and from link-local ones,
// without which neighbor discovery stops.
func InputRules(from nft.LinkMatch, prefix netip.Prefix) []nft.Rule {
	return []nft.Rule{
		// As for DHCP: qnet's server receives by a packet socket.
		{InLink: from, UDPPort: 547, Do: nft.Drop},
		{InLink: from, Source: prefix, Do: nft.Accept},
		{InLink: from, Source: netip.PrefixFrom(linkLocal.Addr(), 10), Do: nft.Accept},
		{InLink: from, Source: unspecified, Do: nft.Accept},
	}
}
