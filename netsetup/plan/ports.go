package plan

import (
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// NIC is one of a VM's, to be connected by a port.
type NIC struct {
	VM    string
	Index int              // 0 to 15
	MAC   net.HardwareAddr // the guest's

	// Addresses are those of the VM's NICs on the network, this one's among them; none where
	// qnet gives none. Unguarded lets the guest send what it likes.
	Addresses []netip.Addr
	Unguarded bool
	Reach     reach.Policy
	OnLink    []netip.Prefix // of onlink.Read, for a guest without LAN

	// Addresses6 are those of IPv6 likewise: what qnet gives, and what the MACs make of the
	// network's prefix.
	Addresses6 []netip.Addr
}

// PortSteps connect one NIC: a tap that is a port of the bridge, or a macvtap link on the
// uplink. The host has no IPv6 on it: it would speak to the guest. The guard's table is there
// before the guest's first frame.
func (p Plan) PortSteps(n NIC) step.List {
	name, mark := host.TapName(n.VM, n.Index), host.PortMark(p.Network.Name, n.VM, n.Index)
	up := step.List{step.SetUp{Link: name}}
	if p.Network.Macvtap {
		return slices.Concat(step.List{step.AddMacvtap{Name: name, Uplink: p.Network.Uplink, MAC: n.MAC, Alias: mark}}, p.withoutIPv6(name), p.guardSteps(n), up)
	}
	port := egress.Port{Link: name, Mark: mark, MAC: n.MAC, Policy: n.Reach, Bridge: p.Bridge, OnLink: n.OnLink}.On(p.Steps)
	return slices.Concat(step.List{step.AddTap{Name: name, Alias: mark, MTU: p.MTU}}, p.withoutIPv6(name), p.guardSteps(n), port.TableSteps(),
		step.List{step.SetPort{Link: name, Bridge: p.Bridge}}, port.LinkSteps(), up)
}

// guardSteps keep the guest from sending what is another one's to send.
func (p Plan) guardSteps(n NIC) step.List {
	if n.Unguarded {
		return nil
	}
	port := guard.Port{
		Link: host.TapName(n.VM, n.Index), Mark: host.PortMark(p.Network.Name, n.VM, n.Index), Macvtap: p.Network.Macvtap,
		MAC: n.MAC, Addresses: n.Addresses, LAN: p.Network.Mode == profiles.Bridge,
		Prefix6: p.Prefix6, Router: p.Router6(), Addresses6: n.Addresses6,
	}
	return step.List{step.AddTable{Table: port.Table()}}
}
