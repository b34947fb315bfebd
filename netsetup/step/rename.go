package step

import (
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Renamer is a step that may name a link of the host's own, which other programs may rename
// while the network runs.
type Renamer interface {
	// Renamed returns the step with name(LINK) in place of each link that it names. The step
	// and the one returned share nothing that changes.
	Renamed(name func(link string) string) Step
}

// Renamed returns the steps with new names of links in place of old ones.
func Renamed(steps List, names map[string]string) List {
	name := func(link string) string {
		if now, ok := names[link]; ok {
			return now
		}
		return link
	}
	list := slices.Clone(steps)
	for i, s := range list {
		if r, ok := s.(Renamer); ok {
			list[i] = r.Renamed(name)
		}
	}
	return list
}

// Renamed makes AddBridge a Renamer.
func (s AddBridge) Renamed(name func(string) string) Step {
	s.Carries = name(s.Carries)
	return s
}

// Renamed makes AddMacvtap a Renamer.
func (s AddMacvtap) Renamed(name func(string) string) Step {
	s.Uplink = name(s.Uplink)
	return s
}

// Renamed makes AddTable a Renamer: rules and sets match links by name.
func (s AddTable) Renamed(name func(string) string) Step {
	s.Table.Sets = slices.Clone(s.Table.Sets)
	for i, set := range s.Table.Sets {
		links := slices.Clone(set.Links)
		for j, l := range links {
			links[j] = name(l)
		}
		s.Table.Sets[i].Links = links
	}
	s.Table.Chains = slices.Clone(s.Table.Chains)
	for i, c := range s.Table.Chains {
		rules := slices.Clone(c.Rules)
		for j := range rules {
			for _, m := range []*nft.LinkMatch{&rules[j].InLink, &rules[j].OutLink} {
				m.Name = name(m.Name)
			}
		}
		s.Table.Chains[i].Rules = rules
	}
	return s
}

// Renamed makes LeaveBy a Renamer. The kernel's route goes on with the link.
func (s LeaveBy) Renamed(name func(string) string) Step {
	s.Link = name(s.Link)
	return s
}

// Renamed makes LinkDNS a Renamer.
func (s LinkDNS) Renamed(name func(string) string) Step {
	s.NIC = name(s.NIC)
	return s
}

// Renamed makes NoLinkDNS a Renamer.
func (s NoLinkDNS) Renamed(name func(string) string) Step {
	s.NIC = name(s.NIC)
	return s
}

// Renamed makes MoveToBridge a Renamer. Held keeps the name of its time: Was tells it.
func (s MoveToBridge) Renamed(name func(string) string) Step {
	now := name(s.Link)
	if now != s.Link && s.Was == "" {
		s.Was = s.Link
	}
	s.Link = now
	return s
}

// Renamed makes SetPort a Renamer.
func (s SetPort) Renamed(name func(string) string) Step {
	s.Link, s.Bridge = name(s.Link), name(s.Bridge)
	return s
}

// Renamed makes SetSysctl a Renamer. The kernel moves a link's sysctls to its new name.
func (s SetSysctl) Renamed(name func(string) string) Step {
	dir, link, key := s.ofLink()
	if link != "" {
		s.Key = dir + name(link) + key
	}
	return s
}

// Renamed makes SetUp a Renamer.
func (s SetUp) Renamed(name func(string) string) Step {
	s.Link = name(s.Link)
	return s
}

// Renamed makes Unmanage a Renamer: NetworkManager knows a link by its index, and each
// request names it anew.
func (s Unmanage) Renamed(name func(string) string) Step {
	s.Link = name(s.Link)
	return s
}
