package host

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Neighbor is a neighbour that answers on the NIC before the host moves to the
// bridge, and must do so after it.
type Neighbor struct {
	Addr netip.Addr       `json:"addr"`
	MAC  net.HardwareAddr `json:"mac,omitempty"` // nil where nobody asked before: then any will do
}

// String is "192.0.2.1 (02:00:00:00:00:01)".
func (a Neighbor) String() string {
	if a.MAC == nil {
		return a.Addr.String()
	}
	return fmt.Sprintf("%s (%s)", a.Addr, a.MAC)
}

// same reports whether the two are one neighbour.
func (a Neighbor) same(o Neighbor) bool {
	return a.Addr == o.Addr && (a.MAC == nil || a.MAC.String() == o.MAC.String())
}

func Join(list []Neighbor) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// Unanswered lists those wanted that are not among the answers.
func Unanswered(want, got []Neighbor) []Neighbor {
	var missing []Neighbor
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || w.same(g)
		}
		if !found {
			missing = append(missing, w)
		}
	}
	return missing
}

// Askable are the neighbours whose answer tells whether the host is on its LAN.
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
