package server

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// checkIPv6 refuses a VM that wants the network with other IPv6 than VMs run it with.
func (s *server) checkIPv6(vm string, n keeper.Network, others []string) error {
	have := s.journal.Plan
	switch {
	case n.IPv6 != have.Network.IPv6:
		return host.Refuse("VM %q wants network %q %s ipv6, VMs %v run it %s", vm, n.Name, with(n.IPv6), others, with(have.Network.IPv6))
	case n.Subnet6.IsValid() && have.Prefix6.IsValid() && n.Subnet6 != have.Prefix6:
		return host.Refuse("VM %q wants network %q with subnet6 %s, VMs %v run it with %s", vm, n.Name, n.Subnet6, others, have.Prefix6)
	}
	return nil
}

// address6 decides which IPv6 address a port has whose IPv4 address is a: the one it wishes, or
// that of its IPv4 address. It is none on a network without IPv6.
func (s *server) address6(vm string, wish, a netip.Addr, sofar []keeper.Port) (netip.Addr, error) {
	planned := s.journal.Plan
	switch {
	case wish.IsValid() && !planned.Network.IPv6:
		return wish, host.Refuse("VM %q wants address %s, but network %q has no IPv6", vm, wish, planned.Network.Name)
	case !planned.Prefix6.IsValid():
		return netip.Addr{}, nil // a note of the plan says why
	case !wish.IsValid():
		wish = ula.Guest(planned.Prefix6, a)
	case !profiles.ValidAddress6(planned.Prefix6, wish):
		return wish, host.Refuse("VM %q wants address %s, which is no guest address of %s (gateway %s)", vm, wish, planned.Prefix6, planned.Gateway6)
	}
	if other := s.holder(vm, sofar, func(o keeper.Port) bool { return o.Address6 == wish }); other != "" {
		return wish, host.Refuse("VM %q wants address %s, which VM %q has", vm, wish, other)
	}
	return wish, nil
}

// own6 are the IPv6 addresses that a VM with these ports may use on the network: those that qnet
// gives, and those that its MACs make of the prefix.
func (s *server) own6(ports []keeper.Port) []netip.Addr {
	var list []netip.Addr
	for _, p := range ports {
		if p.Address6.IsValid() {
			list = append(list, p.Address6, ula.EUI64(s.journal.Plan.Prefix6, p.MAC))
		}
	}
	return list
}
