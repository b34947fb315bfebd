package plan

import (
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// forwardedSet names the set of uplinks whose forwarding the network turned on.
const forwardedSet = "newly_forwarded"

// pinnedSet names the set of links by which guests leave whose network names its uplink. It
// is a set, and not the name in a rule, because the link may be renamed, or become a port,
// while VMs run.
const pinnedSet = "pinned_uplinks"

// findUplinks decides by which links guests of a nat network leave.
func (p *Plan) findUplinks(f host.Facts) error {
	if p.Network.Uplink == "" {
		p.Uplinks = f.Uplinks()
		if l, ok := f.DefaultLink(); ok { // most used, so first
			others := slices.DeleteFunc(p.Uplinks, func(name string) bool { return name == l.Name })
			p.Uplinks = slices.Insert(others, 0, l.Name)
		}
		return nil
	}
	l, ok := f.Link(p.Network.Uplink)
	if !ok {
		return noSuchUplink(p.Network, f)
	}
	if other, ok := networkOf(l, f); ok && other.bridge == l.Name && other.nic != "" {
		return refuseUplink(p.Network, l, other.notForNAT())
	}
	if l.Loopback || l.Ours() {
		return refuseUplink(p.Network, l, "leads nowhere outside: name a link that does, or leave uplink out")
	}
	p.Uplinks = PinnedLinks(f, l.Name)
	return nil
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
	p.Uplinks = slices.Clone(p.Uplinks)
	for i := range p.Uplinks {
		rename(&p.Uplinks[i])
	}
	p.Steps = step.Renamed(p.Steps, names)
	return p
}

// AddForwarded adds an uplink that appeared while the network runs to ForwardedSet in the
// plan, so that the table has it when a mended table is added again.
func (p *Plan) AddForwarded(link string) {
	if set := p.forwardedSet(); set != nil && !slices.Contains(set.Links, link) {
		set.Links = append(set.Links, link)
	}
}

// ForwardedSet names the set of newly forwarded uplinks, in the table host.TableName; ""
// where the mode has none. The plan of an older qnet may have another name for it.
func (p *Plan) ForwardedSet() string {
	if set := p.forwardedSet(); set != nil {
		return set.Name
	}
	return ""
}

// PinnedSet names the set of uplinks in the same table; "" where the network does not name
// its uplink, or where an older qnet planned it.
func (p *Plan) PinnedSet() string {
	for _, s := range step.All[step.AddTable](p.Steps) {
		if slices.ContainsFunc(s.Table.Sets, func(set nft.Set) bool { return set.Name == pinnedSet }) {
			return pinnedSet
		}
	}
	return ""
}

func (p *Plan) forwardedSet() *nft.Set {
	for _, s := range step.All[step.AddTable](p.Steps) {
		if len(s.Table.Sets) > 0 {
			return &s.Table.Sets[0] // of the plan itself: the copy of the step shares the array
		}
	}
	return nil
}

// ForwardingStep is the step for an uplink that appears while the network runs. off reports
// whether the uplink's forwarding is off, so that the step is needed.
func ForwardingStep(f host.Facts, link string) (on step.SetSysctl, off bool) {
	return uplinkForwarding(link, f), f.Sysctls[host.ForwardingKey(link)] == "0"
}
