package plan

import (
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// checkMTU refuses an MTU that a profile cannot ask for: a request to a keeper need not come
// from a profile.
func (n Network) checkMTU() error {
	switch {
	case n.MTU == 0:
		return nil
	case n.Mode == profiles.Bridge:
		return n.refuse("mtu %d: mode bridge has the MTU of the NIC it joins: leave mtu out, or set the NIC's", n.MTU)
	case n.MTU < profiles.MinMTU || n.MTU > profiles.MaxMTU:
		return n.refuse("mtu %d: allowed are %d to %d", n.MTU, profiles.MinMTU, profiles.MaxMTU)
	}
	return nil
}

// jumbo is the MTU of a nat network that asks for none. It is the smallest of the uplinks'
// MTUs where all of them are above 1500, and DHCP tells the guests. It never is below 1500:
// where a tunnel is among the uplinks, the host clamps the MSS (F42).
func jumbo(uplinks []string, f host.Facts) int {
	smallest := 0
	for _, name := range uplinks {
		if l, ok := f.Link(name); ok && (smallest == 0 || l.MTU < smallest) {
			smallest = l.MTU
		}
	}
	return max(smallest, host.DefaultMTU)
}

// chooseMTU gives the network the MTU that the profile asks for. In mode nat that may exceed
// an uplink's: guests and host use all of it among themselves, and the host treats what
// leaves as any router does. It clamps TCP to the route (mssChain), answers packets that must
// not be fragmented with "fragmentation needed" (RFC 1191) from the bridge's own address, so
// that no network between loses that, and fragments the rest. A note tells the user, because
// fragments slow large datagrams down.
func (p *Plan) chooseMTU(f host.Facts) {
	if p.Network.MTU == 0 {
		return
	}
	p.MTU = p.Network.MTU
	for _, name := range p.Uplinks {
		if l, ok := f.Link(name); ok && l.MTU < p.MTU && p.MTU > host.DefaultMTU {
			p.Notes = append(p.Notes, mtuNote(p, l))
		}
	}
}

// minIPv6MTU is the least MTU that IPv6 works with (RFC 8200, section 5).
const minIPv6MTU = 1280

// withoutIPv6 turns IPv6 off on a link of the network. Below minIPv6MTU there is nothing to
// do: the kernel has taken IPv6 and its sysctls off the link (addrconf_notify in
// net/ipv6/addrconf.c).
func (p Plan) withoutIPv6(link string) step.List {
	if !p.HasIPv6 || p.MTU < minIPv6MTU {
		return nil
	}
	return step.List{step.SetSysctl{Key: host.DisableIPv6Key(link), Value: "1"}}
}
