package step

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

var _ = Register[RaiseMetrics]()

// Routes are the host's routes by a link.
type Routes interface {
	// ReplaceRoutes puts each new route in the place of the old one, in one request.
	ReplaceRoutes(ctx context.Context, link string, swaps []RouteSwap) error
}

// RouteSwap puts a route in the place of another.
type RouteSwap struct {
	Old, New rtnl.Route
	First    bool // New goes before routes by other links that are like it
	Again    bool // New is there; it is deleted with all others of this kind, and goes before those routes once more
}

// RaiseMetrics makes the host prefer every other way out to the routes by a bridge whose
// cable is pulled. The bridge itself stays up, because its VMs' ports do, so no other
// program notices the cable (F27). Where there is no other way out, nothing changes.
//
// It leaves alone the routes that the kernel got by router advertisements: of those the
// kernel itself prefers one whose router answers (RFC 4861, section 6.3.6). See
// kernel.Host.GiveUpRouters.
type RaiseMetrics struct {
	Link string        `json:"link"` // the bridge
	Held host.Holdings `json:"held"` // the routes
}

// Do raises the metrics.
func (s RaiseMetrics) Do(ctx context.Context, k Kernel) error {
	return s.explain("raise", k.ReplaceRoutes(ctx, s.Link, s.swaps(true)))
}

// Undo restores the metrics that are still raised.
func (s RaiseMetrics) Undo(ctx context.Context, k Kernel) error {
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err // the routes went with the link
	}
	return s.explain("restore", k.ReplaceRoutes(ctx, s.Link, s.swaps(false)))
}

func (s RaiseMetrics) explain(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s metrics of the routes by %q: %w", verb, s.Link, err)
	}
	return nil
}

// Holds reports true: what another program does to the routes meanwhile stands.
func (s RaiseMetrics) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s RaiseMetrics) String() string { return s.commands(s.swaps(true)) }

// UndoString is the commands that restore the metrics.
func (s RaiseMetrics) UndoString() string { return s.commands(s.swaps(false)) }

// swaps raise or restore the metrics. A route that leads to another's gateway comes before
// that one.
func (s RaiseMetrics) swaps(raise bool) []RouteSwap {
	var list []RouteSwap
	for _, m := range s.Held.RoutesInOrder() {
		was, raised := m.Plain(), m.WithMetric(m.Metric()+host.RaisedBy)
		switch {
		case !raise:
			list = append(list, RouteSwap{Old: raised.Plain(), New: m.Fresh(), First: m.First, Again: m.Again})
		case !m.Again:
			list = append(list, RouteSwap{Old: was, New: raised})
		}
	}
	return list
}

// commands add the new routes and then delete the old ones, last first.
func (s RaiseMetrics) commands(swaps []RouteSwap) string {
	name := func(int) string { return s.Link }
	var lines []string
	again := PlacedAgain(swaps)
	for _, w := range swaps {
		if w.Again {
			for _, r := range again {
				lines = append(lines, r.Command("del", name))
			}
			again = nil // once, before the first of them
		}
		verb := "append"
		if w.First {
			verb = "prepend"
		}
		lines = append(lines, w.New.Command(verb, name))
	}
	for _, r := range Replaced(swaps) {
		lines = append(lines, r.Command("del", name))
	}
	return strings.Join(lines, "\n")
}

// PlacedAgain returns the new routes with Again, in the order in which to delete them.
func PlacedAgain(swaps []RouteSwap) []rtnl.Route {
	var list []rtnl.Route
	for _, w := range swaps {
		if w.Again {
			list = append(list, w.New)
		}
	}
	order.By(list, rtnl.BySpecificity)
	return list
}

// Replaced returns the old routes, in the order in which to delete them: last first, but for
// those of which the kernel might take one for another.
func Replaced(swaps []RouteSwap) []rtnl.Route {
	var list []rtnl.Route
	for _, w := range slices.Backward(swaps) {
		if !w.Again {
			list = append(list, w.Old)
		}
	}
	order.By(list, rtnl.BySpecificity)
	return list
}
