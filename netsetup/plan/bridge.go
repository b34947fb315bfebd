package plan

import (
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// planBridge joins the host's LAN: a bridge that exists is used as it is; a NIC
// becomes the port of a bridge of ours, which takes over what the host has by it.
func planBridge(p Plan, f host.Facts, o Options) (Plan, error) {
	up, err := lanLink(p.Network, f)
	if err != nil {
		return Plan{}, err
	}
	p.Network.Uplink, p.Uplinks = up.Name, []string{up.Name}
	p.MTU = up.MTU
	if up.Kind == "bridge" {
		p.Bridge, p.Waits = up.Name, up.STP
		if p.Waits {
			p.Notes = append(p.Notes, fmt.Sprintf("bridge %s runs STP: a VM starts when its port forwards, often 30 s after it joined", up.Name))
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
	if f.NIC.Held.Carries() {
		if err := movable(p.Network, up, f.NIC); err != nil {
			return Plan{}, err
		}
		if err := checkable(p.Network, up, f.NIC, o.AssumeYes); err != nil {
			return Plan{}, err
		}
		return planMove(p, f, up, before, after), nil
	}
	p.Steps = append(p.Steps, step.AddBridge{Name: p.Bridge, MAC: up.MAC, MTU: p.MTU, Alias: host.NetworkMark(p.Network.Name)})
	p.Steps = append(p.Steps, p.bridgeSysctls()...)
	p.Steps = append(p.Steps, step.SetUp{Link: p.Bridge})
	p.Steps = slices.Concat(p.Steps, before, step.List{step.SetPort{Link: up.Name, Bridge: p.Bridge, Restore: true}}, after)
	if !up.Up {
		p.Steps = append(p.Steps, step.SetUp{Link: up.Name, Restore: true})
	}
	return p, nil
}

// planMove moves the host from the NIC to the bridge. The bridge behaves as the
// NIC did: it has the NIC's MAC, MTU and sysctls.
func planMove(p Plan, f host.Facts, up host.Link, before, after step.List) Plan {
	mark := host.NetworkMark(p.Network.Name)
	p.Notes = append(p.Notes, moveNotes(f, up, p.Bridge)...)
	p.Steps = append(p.Steps, step.AddBridge{Name: p.Bridge, MAC: up.MAC, MTU: p.MTU, Alias: mark, Carries: up.Name})
	for _, c := range f.NIC.Sysctls {
		key := c.Key(up.Name)
		if c.Name == "rp_filter" || key == host.ForwardingKey(up.Name) && f.Sysctls[key] != c.Value {
			continue // the move sets it, twice; a nat network has turned it on, and will here, with its guard
		}
		p.Steps = append(p.Steps, step.SetSysctl{Key: c.Key(p.Bridge), Value: c.Value})
	}
	p.Steps = append(p.Steps, step.SetUp{Link: p.Bridge})
	if !f.NIC.DNS.Empty() {
		p.Steps = append(p.Steps, step.LinkDNS{Link: p.Bridge, NIC: up.Name, Settings: f.NIC.DNS})
	}
	p.Steps = append(p.Steps, before...)
	move := step.MoveToBridge{Link: up.Name, Bridge: p.Bridge, Alias: mark, GenMode: f.NIC.GenMode, RPFilter: f.NIC.RPFilter, Held: f.NIC.Held, Steady: f.NIC.Client.Program == managers.Dhcpcd}
	p.Steps = append(p.Steps, move)
	if f.NIC.GenMode != "" {
		// Or the port keeps a route to ff00::/8, by which multicasts would leave.
		p.Steps = append(p.Steps, step.SetSysctl{Key: host.DisableIPv6Key(up.Name), Value: "1", Old: "0"})
	}
	if want := f.NIC.Askable(); len(want) > 0 {
		p.Steps = append(p.Steps, step.AwaitAnswers{Link: p.Bridge, Want: want})
	}
	if !f.NIC.DNS.Empty() {
		p.Steps = append(p.Steps, step.NoLinkDNS{NIC: up.Name})
	}
	p.Steps = append(p.Steps, after...)
	return p
}

// Query returns what host.Observe must read for the network's plan.
func (n Network) Query() host.Query {
	return host.Query{LAN: n.Mode == profiles.Bridge && !n.Macvtap, Uplink: n.Uplink}
}

// lanLink returns the link that the network joins, or refuses.
func lanLink(n Network, f host.Facts) (host.Link, error) {
	l, ok := f.LANLink(n.Uplink)
	switch {
	case ok:
		return l, nil
	case n.Uplink == "":
		return host.Link{}, host.Refuse("plan network %q: the host has no default route to take the NIC from: name one with [network.%s] uplink",
			n.Name, n.Name)
	}
	return host.Link{}, host.Refuse("plan network %q: uplink %q: there is no such link", n.Name, n.Uplink)
}

// bridgeable refuses what the kernel would refuse, and what it would silently do
// at the host's expense.
func bridgeable(n Network, up host.Link, f host.Facts) error {
	refuse := func(why string) error { return refuseUplink(n, up, why) }
	if why := notEthernet(up); why != "" {
		return refuse(why)
	}
	if up.Master != 0 {
		return refuse(whosePort(up, f))
	}
	if network, vms, ok := tappedBy(f, up); ok {
		return refuse(fmt.Sprintf("carries network %q (%s) by macvtap, and a NIC cannot be a port as well (EBUSY): "+
			"give both networks the same macvtap, or stop the VMs of one", network, inWords(vms)))
	}
	if i := slices.IndexFunc(f.Links, func(l host.Link) bool { return l.Parent == up.Index && rxTaken(l.Kind) }); i >= 0 {
		return refuse(fmt.Sprintf("has %s of kind %s on top, so the kernel refuses it as a port", f.Links[i].Name, f.Links[i].Kind))
	}
	return nil
}

// whosePort words whose port the NIC is, and what to do about it.
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

// movable refuses a NIC whose part in the host's network a bridge cannot take over.
func movable(n Network, up host.Link, nic host.NIC) error {
	refuse := func(why string) error {
		return host.Refuse(`plan network %q: uplink %q carries the host's addresses and %s, or use mode = "nat"`, n.Name, up.Name, why)
	}
	switch {
	case !up.Up:
		return refuse("is down: set it up")
	case len(nic.Hooks) > 0:
		return refuse(fmt.Sprintf("has %s attached, which would see other frames on a port: detach it", nic.Hooks[0]))
	case nic.GenMode == host.GenModeStable || nic.GenMode == host.GenModeRandom:
		return refuse("gets stable-privacy IPv6 addresses from the kernel (addr_gen_mode), which would give the bridge others: name a bridge or another NIC")
	}
	for _, r := range nic.Held.Routes {
		if r.Unmovable() {
			return refuse(fmt.Sprintf("has the route %s with a nexthop object or an encapsulation: delete that", r.Dst()))
		}
	}
	return nil
}

func refuseUplink(n Network, up host.Link, why string) error {
	return host.Refuse("plan network %q: uplink %q %s", n.Name, up.Name, why)
}

// notEthernet tells why the link is none that carries frames of other MACs, "" if it does.
func notEthernet(up host.Link) string {
	switch {
	case up.Ours():
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

// checkable refuses a move of which nobody could tell whether it went well, or
// that whoever runs qnet could cut himself off with. Assumed yes, it is none.
func checkable(n Network, up host.Link, nic host.NIC, assumeYes bool) error {
	if !nic.Asked || assumeYes {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return host.Refuse("plan network %q: uplink %q: %s", n.Name, up.Name, fmt.Sprintf(format, args...))
	}
	if nic.Peer.IsValid() {
		return refuse("your own session from %s comes in by this NIC. The move is undone by itself if what answers before does not after it, "+
			"and by a guard process if qnet is killed; if you want it nevertheless, say --assume-yes", nic.Peer)
	}
	answers := false
	for _, gw := range nic.Held.Gateways() {
		for _, a := range nic.Answers {
			answers = answers || a.Addr == gw
		}
	}
	switch {
	case answers:
		return nil
	case len(nic.Held.Gateways()) == 0:
		return refuse("no default route leads by it, so that there is no gateway to tell whether the host is still on its LAN after the move; say --assume-yes to go on without")
	}
	return refuse("the gateway %s does not answer now, so that it could not tell whether the host is still on its LAN after the move; say --assume-yes to go on without",
		nic.Held.Gateways()[0])
}
