package step

import (
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// AddAccept puts an accept for the network into a chain of iptables, where another
// program drops its packets (F01, F02, F03). Our own tables' accepts do not help
// against that (F07).
type AddAccept struct {
	Rule filters.AcceptRule `json:"rule"`
}

// Do inserts the rule, unless it is there.
func (s AddAccept) Do(k Kernel) error {
	there, err := s.Holds(k)
	if err != nil || there {
		return err
	}
	return k.InsertAccept(s.Rule)
}

// Undo deletes the rule, and what copies of it others made: a firewall that was
// saved and restored meanwhile holds it twice. It is gone already where its chain
// was flushed.
func (s AddAccept) Undo(k Kernel) error {
	filters, err := k.Filters()
	if err != nil {
		return err
	}
	for range filters.Count(s.Rule) {
		if err := k.DeleteAccept(s.Rule); err != nil {
			return err
		}
	}
	return nil
}

// Holds reports whether the rule is there.
func (s AddAccept) Holds(k Kernel) (bool, error) {
	filters, err := k.Filters()
	return filters.Count(s.Rule) > 0, err
}

func (s AddAccept) String() string { return s.Rule.Command("-I") }

// UndoString is the command Undo equals.
func (s AddAccept) UndoString() string { return s.Rule.Command("-D") }

// SplitAccepts parts the steps that make a network from those in others' hands,
// without which it stands, if with fewer promises.
func SplitAccepts(steps List) (own, accepts List) {
	for _, s := range steps {
		switch s.(type) {
		case AddAccept, SetZone:
			accepts = append(accepts, s)
		default:
			own = append(own, s)
		}
	}
	return own, accepts
}

// SweepAccepts removes every accept that bears the network's mark: what a dead
// keeper's journal does not tell of, or a firewall brought back that was saved
// while the network ran.
func SweepAccepts(k Kernel, network string) error {
	filters, err := k.Filters()
	if err != nil {
		return err
	}
	var errs []error
	for _, rule := range filters.Marked(network) {
		if err := k.DeleteAccept(rule); err != nil {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}
