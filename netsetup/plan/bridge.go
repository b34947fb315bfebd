package plan

import (
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// planBridge joins the host's LAN. A network whose uplink is a bridge uses that as it is.
// Else the uplink becomes a port of a bridge of ours, which takes over what the host has by
// it.
func planBridge(p Plan, f host.Facts, o Options) (Plan, error) {
	up, err := lanLink(p.Network, f)
	if err == nil {
		up, err = withoutOthers(p.Network, up, f, o.Runs)
	}
	if err != nil {
		return Plan{}, err
	}
	p.Network.Uplink, p.Uplinks = up.Name, []string{up.Name}
	p.MTU = up.MTU
	if up.Kind == "bridge" {
		if !up.Up {
			return Plan{}, refuseUplink(p.Network, up, fmt.Sprintf("is down: set it up with ip link set %s up", up.Name))
		}
		p.Bridge, p.STP = up.Name, up.STP
		if p.STP {
			p.Notes = append(p.Notes, stpNote(up.Name))
		}
		return p, nil
	}
	if err := bridgeable(p.Network, up, f); err != nil {
		return Plan{}, err
	}
	before, after, err := handOver(p.Network, f.NIC.Client)
	if err != nil {
		return Plan{}, err
	}
	p.Client = f.NIC.Client
	if !f.NIC.Held.Carries() {
		return planSpareNIC(p, up, before, after), nil
	}
	if err := movable(p.Network, up, f.NIC); err != nil {
		return Plan{}, err
	}
	if err := checkable(p.Network, up, f.NIC, o.AssumeYes); err != nil {
		return Plan{}, err
	}
	return planMove(p, f, up, before, after), nil
}

// planSpareNIC makes a NIC that the host does not use a port of the bridge.
func planSpareNIC(p Plan, up host.Link, before, after step.List) Plan {
	p.Steps = append(p.Steps, step.AddBridge{Name: p.Bridge, MAC: up.MAC, MTU: p.MTU, Alias: host.NetworkMark(p.Network.Name)})
	p.Steps = append(p.Steps, p.bridgeSysctls()...)
	p.Steps = append(p.Steps, step.SetUp{Link: p.Bridge})
	p.Steps = slices.Concat(p.Steps, before, step.List{step.SetPort{Link: up.Name, Bridge: p.Bridge, Restore: true}}, after)
	if !up.Up {
		p.Steps = append(p.Steps, step.SetUp{Link: up.Name, Restore: true})
	}
	return p
}

// lanLink returns the link that the network joins.
func lanLink(n Network, f host.Facts) (host.Link, error) {
	l, ok := f.LANLink(n.Uplink)
	switch {
	case ok:
		return l, nil
	case n.Uplink == "":
		return l, n.refuse("the host has no default route to take the NIC from: name one with [network.%s] uplink", n.Name)
	}
	return l, noSuchUplink(n, f)
}

func refuseUplink(n Network, up host.Link, why string) error {
	return n.refuse("uplink %s %s", n.called(up), why)
}

// bridgeable refuses an uplink that the kernel would refuse as a port, and one that the
// kernel would take away from another link of the host's without a word.
func bridgeable(n Network, up host.Link, f host.Facts) error {
	if why := notEthernet(up); why != "" {
		return refuseUplink(n, up, why)
	}
	if up.Master != 0 {
		return refuseUplink(n, up, whosePort(up, f))
	}
	if network, vms, ok := tappedBy(f, up); ok {
		return refuseUplink(n, up, fmt.Sprintf("carries network %q (%s) by macvtap, and a NIC cannot be a port as well (EBUSY): "+
			"give both networks the same macvtap, or stop the VMs of one", network, inWords(vms)))
	}
	if lower, ok := f.LinkByIndex(up.Parent); up.OwnMAC {
		if !ok {
			return refuseUplink(n, up, `is a macvlan, which gets frames of its own MAC alone: use mode = "nat"`)
		}
		return refuseUplink(n, up, fmt.Sprintf(`is a macvlan, which gets frames of its own MAC alone: use uplink = %q with macvtap = true, or mode = "nat"`, lower.Name))
	}
	if upper, ok := upperLink(f, up, "macvlan", "macvtap", "ipvlan"); ok {
		return refuseUplink(n, up, fmt.Sprintf("has %s of kind %s on top, so the kernel refuses it as a port: delete that link, or name another NIC", upper.Name, upper.Kind))
	}
	return nil
}

// upperLink returns the first link of one of the kinds that stands on the link. Those kinds
// occupy its receive handler.
func upperLink(f host.Facts, lower host.Link, kinds ...string) (host.Link, bool) {
	i := slices.IndexFunc(f.Links, func(l host.Link) bool { return l.Parent == lower.Index && slices.Contains(kinds, l.Kind) })
	if i < 0 {
		return host.Link{}, false
	}
	return f.Links[i], true
}

// whosePort says whose port the NIC is, and what to do about that.
func whosePort(up host.Link, f host.Facts) string {
	m, _ := f.LinkByIndex(up.Master)
	switch m.Kind {
	case "vrf":
		return fmt.Sprintf(`is in the VRF %s, whose routes would not follow a bridge: use mode = "nat"`, m.Name)
	case "bond", "team":
		return fmt.Sprintf("is a link of the %s %s: use uplink = %q", m.Kind, m.Name, m.Name)
	}
	return fmt.Sprintf("already is a port of %s: use uplink = %q", m.Name, m.Name)
}

// notEthernet says why the link carries no frames of other MACs, "" if it does.
func notEthernet(up host.Link) string {
	switch {
	case up.Ours():
		return "is qnet's own link: name the host's NIC"
	case up.Loopback:
		return `is the loopback: name an Ethernet NIC, or use mode = "nat"`
	case up.Wireless:
		return `is a Wi-Fi link, and access points drop frames of other MACs: use mode = "nat"`
	case !up.Ethernet || up.Kind == "tuntap" || up.Kind == "tun":
		return `is not an Ethernet NIC: use mode = "nat"`
	}
	return ""
}
