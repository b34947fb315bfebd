package plan

import (
	"context"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// forwardedSet names the set of links whose forwarding the network turned on.
const forwardedSet = "newly_forwarded"

func (p *Plan) findUplinks(f host.Facts) error {
	if p.Network.Uplink == "" {
		p.Uplinks = f.Uplinks()
		if l, ok := f.DefaultLink(); ok { // first: where guests mostly leave
			others := slices.DeleteFunc(p.Uplinks, func(name string) bool { return name == l.Name })
			p.Uplinks = slices.Insert(others, 0, l.Name)
		}
		return nil
	}
	l, ok := f.Link(p.Network.Uplink)
	if !ok {
		return host.Refuse("plan network %q: uplink %q: there is no such link", p.Network.Name, p.Network.Uplink)
	}
	if l.Loopback || l.Ours() {
		return host.Refuse("plan network %q: uplink %q leads nowhere outside", p.Network.Name, l.Name)
	}
	p.Uplinks = []string{l.Name}
	return nil
}

// uplinkForwarding turns an uplink's forwarding on, where it is off: replies
// from outside come in by it. The global ip_forward would change every link and
// reset other settings (F43).
func uplinkForwarding(link string, f host.Facts) step.SetSysctl {
	on := step.SetSysctl{Key: host.ForwardingKey(link), Value: "1", Old: "0"}
	if f.Sysctls[host.IPForward] != "1" { // else it was turned off for this link
		on.Wider = host.IPForward
	}
	return on
}

// NewlyForwarded lists the uplinks whose forwarding the steps turned on and no other
// program wants: what this would newly let pass between the host's other links is to be
// dropped.
func NewlyForwarded(ctx context.Context, k step.Kernel, steps []step.Step) ([]string, error) {
	var links []string
	for _, s := range step.All[step.SetSysctl](steps) {
		link, ok := UplinkOf(s)
		if !ok {
			continue
		}
		wanted, err := s.WantedByOthers(ctx, k)
		if err != nil {
			return nil, err
		}
		if !wanted {
			links = append(links, link)
		}
	}
	return links, nil
}

// UplinkOf returns the uplink whose forwarding a step turns on, false where it turns on
// none.
func UplinkOf(s step.SetSysctl) (string, bool) {
	if s.Old == "" {
		return "", false
	}
	return host.ForwardingLink(s.Key)
}

// AddForwarded puts an uplink found while the network runs into the set of the plan's
// own table, so that the table still drops by it when it is added anew.
func (p *Plan) AddForwarded(link string) {
	if set := p.forwardedSet(); set != nil && !slices.Contains(set.Links, link) {
		set.Links = append(set.Links, link)
	}
}

// ForwardedSet names the set of AddForwarded in the table TableName; "" where the mode
// has none. An older qnet's plan may have another name for it.
func (p *Plan) ForwardedSet() string {
	if set := p.forwardedSet(); set != nil {
		return set.Name
	}
	return ""
}

func (p *Plan) forwardedSet() *nft.Set {
	for _, s := range step.All[step.AddTable](p.Steps) {
		if len(s.Table.Sets) > 0 {
			return &s.Table.Sets[0] // the plan's own: steps share the array
		}
	}
	return nil
}

// ForwardingStep is the step for an uplink found while the network runs; off reports
// whether its forwarding is off, so that the step is needed.
func ForwardingStep(f host.Facts, link string) (on step.SetSysctl, off bool) {
	return uplinkForwarding(link, f), f.Sysctls[host.ForwardingKey(link)] == "0"
}
