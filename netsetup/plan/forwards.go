package plan

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// ForwardSteps are forward.Steps for a guest of the network. In other modes than nat there are
// none: a guest on the LAN would answer past the host, and a network of the host alone stays so.
func (p *Plan) ForwardSteps(guest netip.Addr, forwards []forward.Forward) step.List {
	if p.Network.Mode != profiles.NAT || !guest.Is4() {
		return nil
	}
	return forward.Steps(nft.Forwarding{Table: host.TableName(p.Network.Name), Comment: host.NetworkMark(p.Network.Name), Bridge: p.Bridge}, guest, forwards)
}

// Barriers are forward.Barriers for the network. Other machines come by its uplink, or by the
// bridge that the host is on the LAN by; which link they come by to a network without either does
// not matter.
func (p *Plan) Barriers(rules filters.Ruleset, forwards []forward.Forward) []forward.Barrier {
	link := p.Bridge
	if p.Network.Mode != profiles.Bridge {
		link = slices.Concat(p.Uplinks, []string{"eth0"})[0]
	}
	return forward.Barriers(rules, link, p.Network.Mode == profiles.NAT, forwards)
}
