package step

import (
	"context"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// answerTimeout is how long a move waits for the answers of neighbours. Undoing the move
// takes less than another second, so that the host is back on its NIC within 5 s.
const answerTimeout = 4 * time.Second

var _ = Register[AwaitAnswers]()

// Neighbors are the machines on a link's LAN.
type Neighbors interface {
	// Ask returns which neighbours answer ARP and neighbour solicitations on the link.
	// It returns early when all of want have answered.
	Ask(ctx context.Context, link string, want []host.Neighbor, within time.Duration) ([]host.Neighbor, error)
}

// AwaitAnswers fails, so that the move before it is undone, unless the neighbours that
// answered before the move answer on the bridge, with the MACs they had (F25).
type AwaitAnswers struct {
	Link string          `json:"link"` // the bridge
	Want []host.Neighbor `json:"want"`
}

// Do asks by ARP and neighbour solicitation until all have answered. After 4 s it returns
// host.ErrRefused and names those that did not.
func (s AwaitAnswers) Do(ctx context.Context, k Kernel) error {
	got, err := k.Ask(ctx, s.Link, s.Want, answerTimeout)
	if err != nil {
		return err
	}
	missing := host.Unanswered(s.Want, got)
	if len(missing) == 0 {
		return nil
	}
	heard := "nobody"
	if len(got) > 0 {
		heard = host.JoinNeighbors(got)
	}
	return host.Refuse("await answers on %q: %s answered before the move, and after it not within %s (asked by ARP and neighbour solicitation; heard: %s), so the host is back on its NIC. "+
		`Does the switch or another program on the host forbid it? Use mode = "nat"`,
		s.Link, host.JoinNeighbors(missing), answerTimeout, heard)
}

// Undo does nothing: Do changes nothing.
func (s AwaitAnswers) Undo(context.Context, Kernel) error { return nil }

// Holds reports true: Do asks once, after the move.
func (s AwaitAnswers) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s AwaitAnswers) String() string {
	return fmt.Sprintf("# %s must answer on %s within %s; else all this is undone", host.JoinNeighbors(s.Want), s.Link, answerTimeout)
}

// UndoString is "": there is nothing to undo.
func (s AwaitAnswers) UndoString() string { return "" }

// WaitsFor names the neighbours.
func (s AwaitAnswers) WaitsFor() string {
	return fmt.Sprintf("the answer of %s on %s", host.JoinNeighbors(s.Want), s.Link)
}
