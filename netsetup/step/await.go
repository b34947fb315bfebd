package step

import (
	"context"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// answerTime is how long a move may wait for an answer; with the way back, it is
// undone within 5 s.
const answerTime = 4 * time.Second

var _ = register[AwaitAnswers]()

// AwaitAnswers lets the move stand only if the neighbours that answered before it
// answer on the bridge, with the MACs they had (F25).
type AwaitAnswers struct {
	Link string          `json:"link"` // the bridge
	Want []host.Neighbor `json:"want"`
}

// Do asks by ARP and neighbour solicitation until all have answered. It returns
// ErrRefused, with who did not, when that takes more than 4 s.
func (s AwaitAnswers) Do(ctx context.Context, k Kernel) error {
	got, err := k.Ask(ctx, s.Link, s.Want, answerTime)
	if err != nil {
		return err
	}
	if missing := host.Unanswered(s.Want, got); len(missing) > 0 {
		return host.Refuse("await answers on %q: %s answered before the move, and after it not within %s (asked by ARP and neighbour solicitation; heard: %s); so the host is back on its NIC. "+
			`Does the switch or another program on the host forbid it? Use mode = "nat"`,
			s.Link, host.JoinNeighbors(missing), answerTime, orNobody(got))
	}
	return nil
}

func orNobody(list []host.Neighbor) string {
	if len(list) == 0 {
		return "nobody"
	}
	return host.JoinNeighbors(list)
}

// Undo does nothing: nothing was changed.
func (s AwaitAnswers) Undo(context.Context, Kernel) error { return nil }

// Holds reports true: it is asked once.
func (s AwaitAnswers) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s AwaitAnswers) String() string {
	return fmt.Sprintf("# %s must answer on %s within %s; else all this is undone", host.JoinNeighbors(s.Want), s.Link, answerTime)
}

// UndoString is empty.
func (s AwaitAnswers) UndoString() string { return "" }

// WaitsFor names the neighbors.
func (s AwaitAnswers) WaitsFor() string {
	return fmt.Sprintf("the answer of %s on %s", host.JoinNeighbors(s.Want), s.Link)
}
