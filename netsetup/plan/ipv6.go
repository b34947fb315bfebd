package plan

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/ula"
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
	return nil
}
