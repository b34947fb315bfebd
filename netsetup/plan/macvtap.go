package plan

import (
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// planMacvtap leaves alone the uplink, its addresses and the program that configures it:
// each NIC of a VM gets a macvtap link on the uplink, and there is no bridge.
func planMacvtap(p Plan, f host.Facts, o Options) (Plan, error) {
	up, err := lanLink(p.Network, f)
	if err != nil {
		return Plan{}, err
	}
	if why := macvtapUnfit(up, f); why != "" {
		return Plan{}, refuseUplink(p.Network, up, why)
	}
	p.Network.Uplink, p.Uplinks = up.Name, []string{up.Name}
	p.Bridge, p.MTU = "", up.MTU
	if !up.Up || slices.Contains(o.SetUp, up.Name) { // the last network sets it down
		p.Steps = append(p.Steps, step.SetUp{Link: up.Name, Restore: true})
	}
	p.Notes = append(p.Notes, macvtapNote(p.Network.Name, up.Name))
	return p, nil
}

// macvtapUnfit says why the uplink cannot carry macvtap links, "" if it can.
func macvtapUnfit(up host.Link, f host.Facts) string {
	if other, ok := networkOf(up, f); ok {
		return other.notForMacvtap(up)
	}
	if why := notEthernet(up); why != "" {
		return why
	}
	if up.Kind == "bridge" {
		return "is a bridge, which VMs can join as ports: leave macvtap out"
	}
	if m, ok := f.LinkByIndex(up.Master); ok {
		return fmt.Sprintf("already is a port of %s, and the kernel refuses macvtap on a port (EBUSY): use uplink = %q without macvtap", m.Name, m.Name)
	}
	if upper, ok := upperLink(f, up, "ipvlan", "ipvtap"); ok {
		return fmt.Sprintf("has %s of kind %s on top, so the kernel refuses macvtap on it (EBUSY): delete that link, or name another uplink", upper.Name, upper.Kind)
	}
	return ""
}

// tappedBy finds the first of qnet's networks that has macvtap links on the link, and its
// VMs.
func tappedBy(f host.Facts, up host.Link) (network string, vms []string, ok bool) {
	for _, l := range f.Links {
		n, vm, _, isPort := host.ParsePortMark(l.Alias)
		if !isPort || l.Kind != "macvtap" || l.Parent != up.Index || ok && n != network {
			continue
		}
		network, vms, ok = n, append(vms, vm), true
	}
	return network, vms, ok
}
