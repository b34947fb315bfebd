package step

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

var _ = register[AddAccept]()

// AddAccept puts an accept for the network into a chain of iptables, where another
// program drops its packets (F01, F02, F03). Our own tables' accepts do not help
// against that (F07).
type AddAccept struct {
	Rule filters.AcceptRule `json:"rule"`
}

// Do inserts the rule, unless it is there.
func (s AddAccept) Do(ctx context.Context, k Kernel) error {
	there, err := s.Holds(ctx, k)
	if err != nil || there {
		return err
	}
	return k.InsertAccept(ctx, s.Rule)
}

// Undo deletes the rule, and what copies of it others made: a firewall that was
// saved and restored meanwhile holds it twice. It is gone already where its chain
// was flushed.
func (s AddAccept) Undo(ctx context.Context, k Kernel) error {
	filters, err := k.ReadFilters(ctx)
	if err != nil {
		return err
	}
	for range filters.Count(s.Rule) {
		if err := k.DeleteAccept(ctx, s.Rule); err != nil {
			return err
		}
	}
	return nil
}

// Holds reports whether the rule is there.
func (s AddAccept) Holds(ctx context.Context, k Kernel) (bool, error) {
	filters, err := k.ReadFilters(ctx)
	return filters.Count(s.Rule) > 0, err
}

func (s AddAccept) String() string { return s.Rule.Command("-I") }

// UndoString is the command Undo equals.
func (s AddAccept) UndoString() string { return s.Rule.Command("-D") }

// IsOptional: without the accept the network stands, and other programs drop some packets.
func (AddAccept) IsOptional() {}

// IsAccept: the step does nothing else.
func (AddAccept) IsAccept() {}

// SweepAccepts removes every accept that bears the network's mark: what a dead
// keeper's journal does not tell of, or a firewall brought back that was saved
// while the network ran.
func SweepAccepts(ctx context.Context, k Kernel, network string) error {
	filters, err := k.ReadFilters(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, rule := range filters.Marked(network) {
		if err := k.DeleteAccept(ctx, rule); err != nil {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}
