package nics

import (
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// NetworksOf lists the networks of a profile's NICs, each once, in their order.
func NetworksOf(p *profiles.Profile) []profiles.Network {
	var networks []profiles.Network
	seen := map[string]bool{}
	for _, n := range p.NICs {
		if n.Network != "" && !seen[n.Network] {
			seen[n.Network] = true
			networks = append(networks, p.Networks[n.Network])
		}
	}
	return networks
}

// NetworkOf returns a profile's network as the keeper takes it.
func NetworkOf(n profiles.Network) keeper.Network {
	return keeper.Network{
		Name: n.Name, Mode: n.Mode, Subnet: n.Subnet, IPv6: n.IPv6, Subnet6: n.Subnet6, Uplink: n.Uplink, Macvtap: n.Macvtap,
		MTU: n.MTU, PXE: n.PXE, Metadata: n.Metadata,
	}
}

// KeeperNetworks returns the networks of a profile as keepers know them: nil without a profile, and an empty list
// for a profile without networks.
func KeeperNetworks(p *profiles.Profile) []keeper.Network {
	if p == nil {
		return nil
	}
	networks := []keeper.Network{}
	for _, n := range NetworksOf(p) {
		networks = append(networks, NetworkOf(n))
	}
	return networks
}
