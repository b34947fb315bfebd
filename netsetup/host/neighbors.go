package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Neighbor is a machine on the LAN that answers ARP or a neighbor solicitation. One that
// answers on the NIC before the host moves to a bridge must answer on the bridge after it.
type Neighbor struct {
	Addr netip.Addr       `json:"addr"`
	MAC  net.HardwareAddr `json:"mac,omitempty"` // nil: any
}

// String returns "192.0.2.1 (02:00:00:00:00:01)".
func (n Neighbor) String() string {
	if n.MAC == nil {
		return n.Addr.String()
	}
	return fmt.Sprintf("%s (%s)", n.Addr, n.MAC)
}

// same reports whether an answer is that of the neighbor.
func (n Neighbor) same(o Neighbor) bool {
	return n.Addr == o.Addr && (n.MAC == nil || n.MAC.String() == o.MAC.String())
}

// JoinNeighbors returns the neighbors as a list in words.
func JoinNeighbors(list []Neighbor) string {
	var words []string
	for _, n := range list {
		words = append(words, n.String())
	}
	return strings.Join(words, ", ")
}

// Unanswered returns the wanted neighbors that are not among those that answered.
func Unanswered(want, got []Neighbor) []Neighbor {
	var missing []Neighbor
	for _, w := range want {
		if !slices.ContainsFunc(got, w.same) {
			missing = append(missing, w)
		}
	}
	return missing
}

// Askable returns the neighbors whose answers show that the host is on its LAN: those that
// answered Observe, or without Query.Ask the gateways.
func (n NIC) Askable() []Neighbor {
	if n.Asked {
		return n.Answers
	}
	var list []Neighbor
	for _, a := range n.Held.Gateways() {
		list = append(list, Neighbor{Addr: a})
	}
	return list
}
