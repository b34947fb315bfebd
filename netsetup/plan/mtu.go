package plan

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// checkMTU refuses what a profile cannot ask for.
func (n Network) checkMTU() error {
	switch {
	case n.MTU == 0:
		return nil
	case n.Mode == profiles.Bridge:
		return host.Refuse("plan network %q: mtu %d: mode bridge has the MTU of the NIC it joins", n.Name, n.MTU)
	case n.MTU < profiles.MinMTU || n.MTU > profiles.MaxMTU:
		return host.Refuse("plan network %q: mtu %d: allowed are %d to %d", n.Name, n.MTU, profiles.MinMTU, profiles.MaxMTU)
	}
	return nil
}

// jumbo is the MTU of a nat network: the smallest of the uplinks' where all of them
// carry more than usual, of which DHCP tells the guests. It is never less than usual:
// a tunnel among the uplinks is seen to by clamping the MSS (F42).
func jumbo(uplinks []string, f host.Facts) int {
	smallest := 0
	for _, name := range uplinks {
		if l, ok := f.Link(name); ok && (smallest == 0 || l.MTU < smallest) {
			smallest = l.MTU
		}
	}
	return max(smallest, host.DefaultMTU)
}

// chooseMTU gives the network the MTU that the profile asks for. In nat it may be more
// than an uplink carries: guests and host use all of it among themselves, and what
// leaves is treated as in any router. TCP is clamped to the route (mssChain), packets
// that must not be fragmented come back with "fragmentation needed" (RFC 1191) from
// the bridge's own address, whose answers no network between loses, and the host
// fragments the rest. The user is told, for it costs guests' large datagrams time.
func (p *Plan) chooseMTU(f host.Facts) {
	if p.Network.MTU == 0 {
		return
	}
	p.MTU = p.Network.MTU
	for _, name := range p.Uplinks {
		if l, ok := f.Link(name); ok && l.MTU < p.MTU && p.MTU > host.DefaultMTU {
			p.Notes = append(p.Notes, fmt.Sprintf("network %s has mtu %d and its uplink %s %d: what guests send outside is cut to that", p.Network.Name, p.MTU, name, l.MTU))
		}
	}
}

// minIPv6MTU is the least that IPv6 works with (RFC 8200, section 5).
const minIPv6MTU = 1280

// withoutIPv6 turns IPv6 off on a link of the network, unless its MTU does: then the
// kernel has taken IPv6 and its sysctls off the link (addrconf_notify in
// net/ipv6/addrconf.c).
func (p Plan) withoutIPv6(link string) step.List {
	if !p.HasIPv6 || p.MTU < minIPv6MTU {
		return nil
	}
	return step.List{step.SetSysctl{Key: host.DisableIPv6Key(link), Value: "1"}}
}
