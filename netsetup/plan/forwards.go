package plan

import (
	"net/netip"

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
	f := nft.Forwarding{Table: host.TableName(p.Network.Name), Comment: host.NetworkMark(p.Network.Name), Bridge: p.Bridge}
	return forward.Steps(f, guest, forwards)
}
