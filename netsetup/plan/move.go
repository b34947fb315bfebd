package plan

import (
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// planMove moves the host from its NIC to the bridge. The bridge behaves as the NIC did: it
// has the NIC's MAC, MTU and sysctls.
func planMove(p Plan, f host.Facts, up host.Link, before, after step.List) Plan {
	mark, nic := host.NetworkMark(p.Network.Name), f.NIC
	p.Notes = append(p.Notes, moveNotes(f, up, p.Bridge)...)
	p.Steps = append(p.Steps, step.AddBridge{Name: p.Bridge, MAC: up.MAC, MTU: p.MTU, Alias: mark, Carries: up.Name})
	p.Steps = append(p.Steps, p.sameSysctls(f, up)...)
	p.Steps = append(p.Steps, step.SetUp{Link: p.Bridge})
	if !nic.DNS.Empty() {
		p.Steps = append(p.Steps, step.LinkDNS{Link: p.Bridge, NIC: up.Name, Settings: nic.DNS})
	}
	p.Steps = append(p.Steps, before...)
	p.Steps = append(p.Steps, step.MoveToBridge{
		Link: up.Name, Bridge: p.Bridge, Alias: mark, GenMode: nic.GenMode, RPFilter: nic.RPFilter, Held: nic.Held,
		Dhcpcd: nic.Client.Program == managers.Dhcpcd,
	})
	if nic.GenMode != "" {
		// Else the port keeps a route to ff00::/8, and multicasts leave by it.
		p.Steps = append(p.Steps, step.SetSysctl{Key: host.DisableIPv6Key(up.Name), Value: "1", Old: "0"})
	}
	if want := nic.Askable(); len(want) > 0 {
		p.Steps = append(p.Steps, step.AwaitAnswers{Link: p.Bridge, Want: want})
	}
	if !nic.DNS.Empty() {
		p.Steps = append(p.Steps, step.NoLinkDNS{NIC: up.Name})
	}
	p.Steps = append(p.Steps, after...)
	return p
}

// sameSysctls give the bridge those values of the NIC that a new link does not have. They
// leave out rp_filter, which the move itself sets, twice; and forwarding that only a nat
// network has turned on: that network turns it on for the bridge, too, with a rule.
func (p *Plan) sameSysctls(f host.Facts, up host.Link) step.List {
	var steps step.List
	for _, c := range f.NIC.Sysctls {
		key := c.Key(up.Name)
		if c.Name == "rp_filter" || key == host.ForwardingKey(up.Name) && f.Sysctls[key] != c.Value {
			continue
		}
		steps = append(steps, step.SetSysctl{Key: c.Key(p.Bridge), Value: c.Value})
	}
	return steps
}

// movable refuses a NIC whose part in the host's network a bridge cannot take over.
func movable(n Network, up host.Link, nic host.NIC) error {
	refuse := func(why string) error {
		return refuseUplink(n, up, fmt.Sprintf(`carries the host's addresses and %s, or use mode = "nat"`, why))
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

// checkable refuses a move that cannot be verified (no gateway answers) or that may cut the
// user's own session. --assume-yes skips both checks.
func checkable(n Network, up host.Link, nic host.NIC, assumeYes bool) error {
	if !nic.Asked || assumeYes {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return n.refuse("uplink %s: %s", n.called(up), fmt.Sprintf(format, args...))
	}
	if nic.Peer.IsValid() {
		return refuse("your own session from %s comes in by this NIC. qnet undoes the move if a neighbour that answered before it does not answer after it, "+
			"and its watchdog does if qnet is killed. To go on nevertheless, use --assume-yes", nic.Peer)
	}
	gateways := nic.Held.Gateways()
	if len(gateways) == 0 {
		return refuse("no default route leads by it, so no gateway can show that the host still is on its LAN after the move: use --assume-yes to go on without that check")
	}
	answers := func(gateway host.Neighbor) bool { return slices.Contains(gateways, gateway.Addr) }
	if slices.ContainsFunc(nic.Answers, answers) {
		return nil
	}
	return refuse("the gateway %s does not answer now, so it could not show that the host still is on its LAN after the move: plug the cable, or use --assume-yes to go on without that check",
		gateways[0])
}
