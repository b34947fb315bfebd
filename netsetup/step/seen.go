package step

import "github.com/qnet-vm/qnet/netsetup/host"

// Seen is a Kernel that answers for links from one look at all, so that a network
// of many VMs is looked through in one request. It is of use until a link changes.
type Seen struct {
	Kernel
	links map[string]host.Link
}

// Look looks at all links.
func Look(k Kernel) (Seen, error) {
	list, err := k.Links()
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{k, make(map[string]host.Link, len(list))}
	for _, l := range list {
		seen.links[l.Name] = l
	}
	return seen, nil
}

// Link finds the link as it was seen.
func (s Seen) Link(name string) (host.Link, bool, error) {
	l, ok := s.links[name]
	return l, ok, nil
}
