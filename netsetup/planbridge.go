package netsetup

import (
	"fmt"
	"slices"
)

// planBridge joins the host's LAN: a bridge that exists is used as it is; a NIC
// without an address becomes the port of a bridge of ours.
func planBridge(p Plan, f Facts) (Plan, error) {
	up, err := lanLink(p.Network, f)
	if err != nil {
		return Plan{}, err
	}
	p.Network.Uplink, p.Uplinks = up.Name, []string{up.Name}
	p.MTU = up.MTU
	if up.Kind == "bridge" {
		p.Bridge, p.Waits = up.Name, up.STP
		return p, nil
	}
	if err := bridgeable(p.Network, up, f); err != nil {
		return Plan{}, err
	}
	p.Steps = append(p.Steps, AddBridge{Name: p.Bridge, MAC: up.MAC, MTU: p.MTU, Alias: networkMark(p.Network.Name)})
	p.Steps = append(p.Steps, p.bridgeSysctls()...)
	p.Steps = append(p.Steps, SetUp{Link: p.Bridge}, SetPort{Link: up.Name, Bridge: p.Bridge, Restore: true})
	if !up.Up {
		p.Steps = append(p.Steps, SetUp{Link: up.Name, Restore: true})
	}
	return p, nil
}

func lanLink(n Network, f Facts) (Link, error) {
	if n.Uplink == "" {
		if l, ok := f.DefaultLink(); ok {
			return l, nil
		}
		return Link{}, fmt.Errorf("plan network %q: the host has no default route to take the NIC from: name one with [network.%s] uplink: %w",
			n.Name, n.Name, ErrRefused)
	}
	l, ok := f.Link(n.Uplink)
	if !ok {
		return Link{}, fmt.Errorf("plan network %q: uplink %q: there is no such link: %w", n.Name, n.Uplink, ErrRefused)
	}
	return l, nil
}

// bridgeable refuses what the kernel would refuse, and what it would silently do
// at the host's expense.
func bridgeable(n Network, up Link, f Facts) error {
	refuse := func(why string) error { return refuseUplink(n, up, why) }
	if why := notEthernet(up); why != "" {
		return refuse(why)
	}
	if up.Master != 0 {
		m, _ := f.linkByIndex(up.Master)
		return refuse(fmt.Sprintf("already is a port of %s: use uplink = %q", m.Name, m.Name))
	}
	if network, vms, ok := f.tappedBy(up); ok {
		return refuse(fmt.Sprintf("carries network %q (%s) by macvtap, and a NIC cannot be a port as well (EBUSY): "+
			"give both networks the same macvtap, or stop the VMs of one", network, inWords(vms)))
	}
	if i := slices.IndexFunc(f.Links, func(l Link) bool { return l.Parent == up.Index && rxTaken(l.Kind) }); i >= 0 {
		return refuse(fmt.Sprintf("has %s of kind %s on top, so the kernel refuses it as a port", f.Links[i].Name, f.Links[i].Kind))
	}
	if a, ok := up.globalAddress(); ok {
		return refuse(fmt.Sprintf(`carries the host's address %s, and a bridge port cannot: name a bridge or a NIC without an address, or use mode = "nat"`, a))
	}
	return nil
}

func refuseUplink(n Network, up Link, why string) error {
	return fmt.Errorf("plan network %q: uplink %q %s: %w", n.Name, up.Name, why, ErrRefused)
}

// notEthernet tells why the link is none that carries frames of other MACs, "" if it does.
func notEthernet(up Link) string {
	switch {
	case up.ours():
		return "is qnet's own link"
	case up.Loopback:
		return `is the loopback: name an Ethernet NIC, or use mode = "nat"`
	case up.Wireless:
		return `is a Wi-Fi link, and access points drop frames of other MACs: use mode = "nat"`
	case !up.Ethernet || up.Kind == "tuntap" || up.Kind == "tun":
		return `is not an Ethernet NIC: use mode = "nat"`
	}
	return ""
}

// rxTaken tells the kinds of upper link that occupy the lower link's receive handler.
func rxTaken(kind string) bool {
	return kind == "macvlan" || kind == "macvtap" || kind == "ipvlan"
}
