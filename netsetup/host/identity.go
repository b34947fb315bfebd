package host

import (
	"bytes"
	"net"
	"slices"
)

// Identity tells a link of the host's own from all others in its network namespace, for this
// boot, whatever names it gets. A journal holds it as JSON.
type Identity struct {
	Name    string           `json:"name"`           // the last that is known
	Planned string           `json:"planned"`        // the name when the network was planned
	Index   int              `json:"index"`          // the kernel gives each one out once, unless a program asks for one
	Kind    string           `json:"kind"`           // as Link's
	MAC     net.HardwareAddr `json:"mac,omitempty"`  // the last that is known
	PermMAC net.HardwareAddr `json:"perm,omitempty"` // as Link's
}

// Identity returns what tells the link from others.
func (l Link) Identity() Identity {
	return Identity{Name: l.Name, Planned: l.Name, Index: l.Index, Kind: l.Kind, MAC: l.MAC, PermMAC: l.PermMAC}
}

// Same reports whether the two are equal.
func (i Identity) Same(o Identity) bool {
	return i.Name == o.Name && i.Planned == o.Planned && i.Index == o.Index && i.Kind == o.Kind &&
		bytes.Equal(i.MAC, o.MAC) && bytes.Equal(i.PermMAC, o.PermMAC)
}

// borrows are the kinds of links that take a MAC from their ports, whenever these change.
var borrows = []string{"bridge", "bond", "team"}

// Is reports whether the link is that one: it has the index and the kind, and one of name,
// MAC and permanent MAC. An index alone is not enough: a program that makes a link, or moves
// it here from another network namespace, may ask for a free one.
func (i Identity) Is(l Link) bool {
	if l.Index != i.Index || l.Kind != i.Kind {
		return false
	}
	return l.Name == i.Name || bytes.Equal(l.MAC, i.MAC) || i.sameHardware(l) || slices.Contains(borrows, l.Kind)
}

func (i Identity) sameHardware(l Link) bool {
	return l.Kind == i.Kind && len(i.PermMAC) > 0 && bytes.Equal(l.PermMAC, i.PermMAC)
}

// Found is a link by its identity.
type Found struct {
	Link   Link
	OK     bool
	Remade bool // the link itself is gone, and this one has come in its place
}

// FindLinks finds each of the links, by its index first. A link that is gone may have come
// back as another: a NIC that was plugged in again, which has the permanent MAC, or a tunnel
// that was made again, which has the name.
func FindLinks(ids []Identity, links []Link) []Found {
	found := make([]Found, len(ids))
	taken := map[int]bool{} // indices
	find := func(remade bool, is func(Identity, Link) bool) {
		for n, id := range ids {
			i := slices.IndexFunc(links, func(l Link) bool { return !taken[l.Index] && !l.Ours() && is(id, l) })
			if !found[n].OK && i >= 0 {
				found[n] = Found{links[i], true, remade}
				taken[links[i].Index] = true
			}
		}
	}
	find(false, Identity.Is)
	find(true, Identity.sameHardware)
	find(true, func(id Identity, l Link) bool { return l.Name == id.Name })
	return found
}
