package plan

import (
	"net"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// NIC is one of a VM's, to be connected by a port.
type NIC struct {
	VM    string
	Index int              // 0 to 15
	MAC   net.HardwareAddr // the guest's; only a macvtap link needs it
}

// PortSteps connect one NIC: a tap that is a port of the bridge, or a macvtap link on the
// uplink. The host has no IPv6 on it: it would speak to the guest.
func (p Plan) PortSteps(n NIC) step.List {
	name, mark := host.TapName(n.VM, n.Index), host.PortMark(p.Network.Name, n.VM, n.Index)
	if p.Network.Macvtap {
		steps := step.List{step.AddMacvtap{Name: name, Uplink: p.Network.Uplink, MAC: n.MAC, Alias: mark}}
		steps = append(steps, p.withoutIPv6(name)...)
		return append(steps, step.SetUp{Link: name})
	}
	steps := step.List{step.AddTap{Name: name, Alias: mark, MTU: p.MTU}}
	steps = append(steps, p.withoutIPv6(name)...)
	return append(steps, step.SetPort{Link: name, Bridge: p.Bridge}, step.SetUp{Link: name})
}
