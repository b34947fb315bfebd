package step

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

var _ = register[RaiseMetrics]()

// RaiseMetrics lets every other way out go before the host's routes by a bridge
// whose cable is pulled: the bridge itself stays up, because its VMs' ports do, so
// that no other program sees what happened (F27). Where there is no other way, all
// stays as it was.
//
// What routers advertise to the kernel is left alone: of those the kernel itself
// prefers one that answers (RFC 4861, 6.3.6); see GiveUpRouters.
type RaiseMetrics struct {
	Link string        `json:"link"`
	Held host.Holdings `json:"held"` // the routes
}

// Do raises them.
func (s RaiseMetrics) Do(ctx context.Context, k Kernel) error {
	return s.word("raise", k.ReplaceRoutes(ctx, s.Link, s.swaps(true)))
}

// Undo makes those that are still raised as they were.
func (s RaiseMetrics) Undo(ctx context.Context, k Kernel) error {
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err // the routes went with it
	}
	return s.word("restore", k.ReplaceRoutes(ctx, s.Link, s.swaps(false)))
}

func (s RaiseMetrics) word(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s metrics of the routes by %q: %w", verb, s.Link, err)
	}
	return nil
}

// Holds reports true: what another program did to the routes meanwhile stands.
func (s RaiseMetrics) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s RaiseMetrics) String() string { return s.commands(s.swaps(true)) }

// UndoString is the command Undo equals.
func (s RaiseMetrics) UndoString() string { return s.commands(s.swaps(false)) }

// Swap puts a route in another's place.
type Swap struct {
	Old, New rtnl.Route
	First    bool // it goes before a like one by another link
}

// swaps are in the order in which each gateway is reached by a route before it.
func (s RaiseMetrics) swaps(raise bool) []Swap {
	var list []Swap
	for _, m := range s.Held.RoutesInOrder() {
		was, raised := m.Plain(), m.WithMetric(m.Metric()+host.RaisedBy)
		if raise {
			list = append(list, Swap{Old: was, New: raised})
		} else {
			list = append(list, Swap{Old: raised.Plain(), New: m.Fresh(), First: m.First})
		}
	}
	return list
}

func (s RaiseMetrics) commands(swaps []Swap) string {
	name := func(int) string { return s.Link }
	var add, del []string
	for _, w := range swaps {
		verb := "append"
		if w.First {
			verb = "prepend"
		}
		add = append(add, w.New.Command(verb, name))
		del = append(del, w.Old.Command("del", name))
	}
	slices.Reverse(del)
	return strings.Join(append(add, del...), "\n")
}
