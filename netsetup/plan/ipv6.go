package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nat66"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// bridgeIPv6 are the sysctls of IPv6 of the network's bridge.
func (p *Plan) bridgeIPv6() step.List {
	if p.Prefix6.IsValid() {
		return ula.BridgeSysctls(p.Bridge)
	}
	return p.withoutIPv6(p.Bridge)
}

// Router6 is the link-local address of the bridge of a network with IPv6, by which guests know
// their router. It is not valid without.
func (p *Plan) Router6() netip.Addr {
	bridge, ok := step.Find[step.AddBridge](p.Steps)
	if !ok || !p.Prefix6.IsValid() {
		return netip.Addr{}
	}
	return ula.LinkLocal(bridge.MAC)
}

// choosePrefix6 gives a network with IPv6 its prefix, where the host and the MTU allow one. The
// network is one of IPv4 alone elsewhere, and a note says why.
func (p *Plan) choosePrefix6(f host.Facts, o Options) error {
	n := p.Network
	switch {
	case !n.IPv6:
		return nil
	case !n.Mode.HasSubnet():
		return n.refuse("ipv6 in mode %s: allowed in host-only and nat", n.Mode)
	case !p.HasIPv6:
		p.Notes = append(p.Notes, fmt.Sprintf("guests of network %s have IPv4 alone: this host's kernel has no IPv6, or was booted with ipv6.disable=1", n.Name))
		return nil
	case p.MTU < minIPv6MTU:
		p.Notes = append(p.Notes, fmt.Sprintf("guests of network %s have IPv4 alone: IPv6 needs an mtu of %d, and the network has %d", n.Name, minIPv6MTU, p.MTU))
		return nil
	}
	var err error
	want := ula.Request{Network: n.Name, Bridge: p.Bridge, Pinned: n.Subnet6, Remembered: o.Remembered6, Salt: o.Salt}
	if p.Prefix6, err = ula.Choose(want, f); err != nil {
		return err
	}
	p.Gateway6 = ula.Gateway(p.Prefix6)
	if n.Mode != profiles.NAT {
		return nil
	}
	if p.Way6 = nat66.WayOf(f); p.Way6 == nat66.Not {
		p.Notes = append(p.Notes, fmt.Sprintf("guests of network %s reach no IPv6 outside: of this host's links %s forward IPv6 and the others do not, and a kernel without force_forwarding (before 6.17) forgets that with the network; set net.ipv6.conf.all.forwarding=1",
			n.Name, strings.Join(f.Routers6, ", ")))
	}
	p.Outward6 = p.IsOutward6(f)
	return nil
}

// nat66 is what package nat66 must know of the network.
func (p *Plan) nat66() nat66.Network {
	return nat66.Network{Bridge: p.Bridge, Prefix: p.Prefix6, Uplinks: p.Uplinks, Way: p.Way6}
}

// forward6Steps make the host forward IPv6 between guests and the outside.
func (p *Plan) forward6Steps(f host.Facts) step.List {
	if !p.Prefix6.IsValid() {
		return nil
	}
	return p.nat66().Steps(f)
}

// Forward6Steps are those for an uplink that appears while the network runs.
func (p *Plan) Forward6Steps(f host.Facts, link string) step.List {
	if !p.Prefix6.IsValid() {
		return nil
	}
	return p.nat66().UplinkSteps(f, link)
}

// IsOutward6 reports whether guests of the network leave by the host's default route of IPv6.
func (p *Plan) IsOutward6(f host.Facts) bool {
	var only []string
	if p.Network.Uplink != "" {
		only = pinnedLinks(f, p.Network.Uplink)
	}
	return p.Prefix6.IsValid() && p.Network.Mode == profiles.NAT && nat66.IsOutward(f, p.Way6, only)
}

// Uplink6Of is UplinkOf for what a network does to an uplink's IPv6.
func Uplink6Of(s step.SetSysctl) (string, bool) {
	link, _, ok := host.IPv6Link(s.Key)
	return link, ok && s.Old != "" && link != "all" && link != "default"
}
