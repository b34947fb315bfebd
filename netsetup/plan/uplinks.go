package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nat66"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// forwardedSet names the set of uplinks whose forwarding the network turned on.
const forwardedSet = "newly_forwarded"

// portsSet names the set of bridges of which br_netfilter shows what their ports send each other:
// those that are in forwardedSet, or come into it.
const portsSet = "between_ports"

// pinnedSet names the set of links by which guests leave whose network names its uplink. It
// is a set, and not the name in a rule, because the link may be renamed, or become a port,
// while VMs run.
const pinnedSet = "pinned_uplinks"

// findUplinks decides by which links guests of a nat network leave.
func (p *Plan) findUplinks(f host.Facts) error {
	if p.Network.Uplink != "" {
		return p.pinUplink(f)
	}
	p.Uplinks, p.Beside = f.Uplinks(), f.Beside()
	return nil
}

// pinUplink makes the link that the profile names the only uplink.
func (p *Plan) pinUplink(f host.Facts) error {
	n := p.Network
	l, ok := f.Link(n.Uplink)
	if !ok {
		return noSuchUplink(n, f)
	}
	if other, ok := networkOf(l, f); ok && other.bridge == l.Name && other.nic != "" {
		return refuseUplink(n, l, other.notForNAT())
	}
	if l.Loopback || l.Ours() {
		return refuseUplink(n, l, "leads nowhere outside: name a link that does, or leave uplink out")
	}
	if m, ok := f.LinkByIndex(l.Master); ok && !m.Ours() && m.Kind != "vrf" {
		return refuseUplink(n, l, whosePort(l, f))
	}
	p.Uplinks = pinnedLinks(f, l.Name)
	return nil
}

// UnreachedOf says what guests of the network do not reach of what the host reaches, or the
// profile asks for, as the host is now. It says nothing in the modes private and host-only.
func (p *Plan) UnreachedOf(f host.Facts) []string {
	n := p.Network
	switch {
	case n.Mode == profiles.NAT && n.Uplink != "":
		return p.unreachedByPinned(f)
	case n.Mode == profiles.NAT:
		return p.unreachedByAll(f)
	}
	if l, ok := f.Link(n.Uplink); ok && n.Mode == profiles.Bridge && l.Name == p.Bridge {
		if why := deadEnd(l, f); why != "" {
			return []string{deadLANNote(n.Name, l.Name, why)}
		}
	}
	return nil
}

func (p *Plan) unreachedByPinned(f host.Facts) []string {
	l, ok := p.exitLink(f)
	if !ok {
		return nil // the keeper tells of links that go
	}
	if why := deadEnd(l, f); why != "" {
		return []string{deadUplinkNote(p.Network.Name, l.Name, why)}
	}
	way, ok := p.guestLink(f)
	if _, online := defaultBy(f, l); !online && (!ok || way.Index != l.Index) {
		return []string{noRouteNote(p.Network.Name, l.Name)}
	}
	own, _ := f.DefaultLink()
	if !slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Addr().Is4() }) && own.Index != l.Index {
		return []string{noAddressNote(p.Network.Name, l.Name)}
	}
	return nil
}

func (p *Plan) unreachedByAll(f host.Facts) []string {
	if late := p.lateBridges(f); len(late) > 0 {
		return []string{lateBridgeNote(p.Network.Name, late[0])}
	}
	own, online := f.DefaultLink()
	if !online {
		if l, ok := f.LANLink(""); ok { // of IPv6
			return []string{onlyIPv6Note(p, l.Name)}
		}
		return nil
	}
	switch way, ok := p.guestLink(f); {
	case !ok:
		return []string{noWayNote(p.Network.Name, own.Name)}
	case way.Index != own.Index:
		return []string{otherWayNote(p.Network.Name, way.Name, own.Name)}
	}
	return nil
}

// guestLink returns the link by which the host sends guests' packets to the Internet.
func (p *Plan) guestLink(f host.Facts) (host.Link, bool) {
	return f.GuestLink(p.Bridge, p.Gateway.Next())
}

// deadEnd says why nothing leaves by the link now, "" if something may.
func deadEnd(l host.Link, f host.Facts) string {
	port := func(p host.Link) bool { return p.Master == l.Index && !p.Ours() }
	switch {
	case !l.Up:
		return fmt.Sprintf("is down: ip link set %s up", l.Name)
	case l.Kind == "bridge" && !slices.ContainsFunc(f.Links, port):
		return fmt.Sprintf("is a bridge without a port: ip link set NIC master %s", l.Name)
	case l.Kind == "bridge" && !slices.ContainsFunc(f.Links, func(p host.Link) bool { return port(p) && p.Up && p.Carrier }):
		return "is a bridge of which no port has a carrier: look at its ports and their cables"
	case !l.Carrier:
		return "has no carrier: plug the cable, or start what connects it"
	}
	return ""
}

// uplinkForwarding turns an uplink's forwarding on: replies from outside come in by the
// uplink. The global ip_forward would change every link and reset other settings (F43).
func uplinkForwarding(link string, f host.Facts) step.SetSysctl {
	on := step.SetSysctl{Key: host.ForwardingKey(link), Value: "1", Old: "0"}
	if f.Sysctls[host.IPForward] != "1" { // else the administrator turned it off for this link
		on.Wider = host.IPForward
	}
	return on
}

// UplinkOf returns the uplink whose forwarding the step turns on, false where it turns on
// none.
func UplinkOf(s step.SetSysctl) (string, bool) {
	if s.Old == "" {
		return "", false
	}
	return host.ForwardingLink(s.Key)
}

// Appeared lists the links by which guests may leave and that have become such since the
// plan was made or last followed.
func (p *Plan) Appeared(f host.Facts) []host.Link {
	found := append(f.Uplinks(), f.Beside()...)
	if pinned := p.Network.Uplink; pinned != "" {
		found = pinnedLinks(f, pinned)
	}
	var appeared []host.Link
	for _, name := range found {
		l, there := f.Link(name)
		if there && !p.follows(name) && !isShown(f, l) {
			appeared = append(appeared, l)
		}
	}
	return appeared
}

// follows reports whether the link is one of the plan's.
func (p *Plan) follows(link string) bool {
	return slices.Contains(p.Uplinks, link) || slices.Contains(p.Beside, link)
}

// isShown reports whether the host does not forward by a bridge, and br_netfilter shows what
// its ports send each other. The rules of a network that runs would drop that if the network
// turned the forwarding on; between ports of qnet's own bridges they drop nothing.
func isShown(f host.Facts, l host.Link) bool {
	return l.Kind == "bridge" && !l.Ours() && (f.Filters.BridgeIPv4 || f.Filters.BridgeIPv6) && f.Sysctls[host.ForwardingKey(l.Name)] == "0"
}

// lateBridges are the bridges that Appeared leaves out.
func (p *Plan) lateBridges(f host.Facts) []string {
	return slices.DeleteFunc(append(f.Uplinks(), f.Beside()...), func(name string) bool {
		l, ok := f.Link(name)
		return !ok || p.follows(name) || !isShown(f, l)
	})
}

// AddUplink makes a link that Appeared listed one of the plan's.
func (p *Plan) AddUplink(f host.Facts, l host.Link) {
	if p.Network.Uplink == "" && slices.Contains(f.Beside(), l.Name) {
		p.Beside = append(p.Beside, l.Name)
		return
	}
	p.Uplinks = append(p.Uplinks, l.Name)
}

// HasForwarding reports whether the network turns forwarding on for its uplinks.
func (p Plan) HasForwarding() bool { return p.Network.Mode == profiles.NAT }

// Renamed returns the plan with new names of links of the host's own in place of old ones.
func (p Plan) Renamed(names map[string]string) Plan {
	rename := func(link *string) {
		if now, ok := names[*link]; ok {
			*link = now
		}
	}
	rename(&p.Network.Uplink)
	rename(&p.Bridge) // one of the host's that VMs join
	rename(&p.Client.Link)
	p.Uplinks, p.Beside = slices.Clone(p.Uplinks), slices.Clone(p.Beside)
	for _, links := range [][]string{p.Uplinks, p.Beside} {
		for i := range links {
			rename(&links[i])
		}
	}
	p.Steps = step.Renamed(p.Steps, names)
	return p
}

// AddForwarded adds an uplink that appeared while the network runs to the sets of its table in
// the plan, so that the table has it when a mended table is added again: to those of IPv4, or of IPv6.
func (p *Plan) AddForwarded(l host.Link, ipv6 bool) {
	sets := p.sets()
	for i := range sets { // of the plan itself: the copy of the step shares the array
		belongs := i == 0 && !ipv6 || sets[i].Name == nat66.ForwardedSet && ipv6 || sets[i].Pairs && l.Kind == "bridge"
		if belongs && !slices.Contains(sets[i].Links, l.Name) {
			sets[i].Links = append(sets[i].Links, l.Name)
		}
	}
}

// LinkSets are the sets of the table host.TableName as they should be where the network newly
// forwards these links for IPv4 and for IPv6, or all but those lifted, in the order in which they may be set: none in modes without. The plan
// of an older qnet lacks some, or has other names for them.
func (p *Plan) LinkSets(forwarded, forwarded6, lifted6 []string) []nft.Set {
	sets := slices.Clone(p.sets())
	for i := range sets {
		switch {
		case i == 0:
			sets[i].Links = forwarded
		case sets[i].Name == pinnedSet:
			sets[i].Links = p.Uplinks
		case sets[i].Name == nat66.ForwardedSet:
			sets[i].Links = forwarded6
		case sets[i].Name == nat66.LiftedSet:
			sets[i].Links = lifted6
		}
	}
	slices.Reverse(sets) // what lets pass before what drops
	return sets
}

// sets are those of the network's first table that has some. The first of them is that of the
// uplinks whose forwarding the network turned on.
func (p *Plan) sets() []nft.Set {
	for _, s := range step.All[step.AddTable](p.Steps) {
		if len(s.Table.Sets) > 0 {
			return s.Table.Sets
		}
	}
	return nil
}

// ForwardingStep is the step for an uplink that appears while the network runs. off reports
// whether the uplink's forwarding is off, so that the step is needed.
func ForwardingStep(f host.Facts, link string) (on step.SetSysctl, off bool) {
	return uplinkForwarding(link, f), f.Sysctls[host.ForwardingKey(link)] == "0"
}
