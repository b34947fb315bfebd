package netsetup

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Answer is a neighbour that answers on the NIC before the host moves to the
// bridge, and must do so after it.
type Answer struct {
	Addr netip.Addr       `json:"addr"`
	MAC  net.HardwareAddr `json:"mac,omitempty"` // nil where nobody asked before: then any will do
}

// String is "192.0.2.1 (02:00:00:00:00:01)".
func (a Answer) String() string {
	if a.MAC == nil {
		return a.Addr.String()
	}
	return fmt.Sprintf("%s (%s)", a.Addr, a.MAC)
}

// same reports whether the two are one neighbour.
func (a Answer) same(o Answer) bool {
	return a.Addr == o.Addr && (a.MAC == nil || a.MAC.String() == o.MAC.String())
}

func join(list []Answer) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// answerTime is how long a move may wait for an answer; with the way back, it is
// undone within 5 s.
const answerTime = 4 * time.Second

// AwaitAnswers lets the move stand only if the neighbours that answered before it
// answer on the bridge, with the MACs they had (F25).
type AwaitAnswers struct {
	Link string   `json:"link"` // the bridge
	Want []Answer `json:"want"`
}

// Do asks by ARP and neighbour solicitation until all have answered. It returns
// ErrRefused, with who did not, when that takes more than 4 s.
func (s AwaitAnswers) Do(k Kernel) error {
	got, err := k.Ask(s.Link, s.Want, answerTime)
	if err != nil {
		return err
	}
	if missing := unanswered(s.Want, got); len(missing) > 0 {
		return fmt.Errorf("await answers on %q: %s answered before the move, and after it not within %s (asked by ARP and neighbour solicitation; heard: %s); so the host is back on its NIC. "+
			`Does the switch or another program on the host forbid it? Use mode = "nat": %w`,
			s.Link, join(missing), answerTime, orNobody(got), ErrRefused)
	}
	return nil
}

func orNobody(list []Answer) string {
	if len(list) == 0 {
		return "nobody"
	}
	return join(list)
}

// unanswered lists those wanted that are not among the answers.
func unanswered(want, got []Answer) []Answer {
	var missing []Answer
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

// Undo does nothing: nothing was changed.
func (s AwaitAnswers) Undo(Kernel) error { return nil }

// Holds reports true: it is asked once.
func (s AwaitAnswers) Holds(Kernel) (bool, error) { return true, nil }

func (s AwaitAnswers) String() string {
	return fmt.Sprintf("# %s must answer on %s within %s; else all this is undone", join(s.Want), s.Link, answerTime)
}

// UndoString is empty.
func (s AwaitAnswers) UndoString() string { return "" }

// askable are the neighbours whose answer tells whether the host is on its LAN.
func (n NIC) askable() []Answer {
	if n.Asked {
		return n.Answers
	}
	var list []Answer
	for _, a := range n.Held.Gateways() {
		list = append(list, Answer{Addr: a})
	}
	return list
}

// checkable refuses a move of which nobody could tell whether it went well, or
// that whoever runs qnet could cut himself off with. Assumed yes, it is none.
func checkable(n Network, up Link, nic NIC, assumeYes bool) error {
	if !nic.Asked || assumeYes {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("plan network %q: uplink %q: %s: %w", n.Name, up.Name, fmt.Sprintf(format, args...), ErrRefused)
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
