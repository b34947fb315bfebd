package step

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

var _ = Register[AddAccept]()

// Filters are other programs' packet filters.
type Filters interface {
	ReadFilters(ctx context.Context) (filters.Ruleset, error)
	InsertAccept(ctx context.Context, a filters.AcceptRule) error
	// DeleteAccept deletes one copy of the rule.
	DeleteAccept(ctx context.Context, a filters.AcceptRule) error
}

// AddAccept inserts an accept for the network into a chain of iptables in which another
// program drops the network's packets (F01, F02, F03). An accept in qnet's own tables does
// not help against such a drop (F07).
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

// Undo deletes the rule and all copies of it: a firewall that saved its chains and
// restored them while the network ran has two. Where another program flushed the chain,
// there is none.
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

// UndoString is the command that deletes the rule.
func (s AddAccept) UndoString() string { return s.Rule.Command("-D") }

// IsOptional makes it Optional.
func (AddAccept) IsOptional() {}

// IsAccept makes it an Accept.
func (AddAccept) IsAccept() {}

// SweepAccepts deletes every accept that bears the network's mark: those that the journal
// of a dead keeper lacks, and those that a firewall saved while the network ran and
// restored later. It tries all of them and returns all errors.
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
