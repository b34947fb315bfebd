package netsetup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/netcfg"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// StepError is the failure of one step.
type StepError struct {
	Step Step
	Err  error
}

// Error says what failed in the step's own words.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Apply does the steps in order and calls done after each. When one fails, it
// and all before it are undone, and a *StepError is returned, joined with what
// the undo met.
func Apply(k Kernel, steps []Step, done func(Step)) error {
	for i, s := range steps {
		err := s.Do(k)
		if err == nil {
			err = failpoint.Hit("did " + stepType(s))
		}
		if err != nil {
			return errors.Join(&StepError{Step: s, Err: err}, Undo(k, undoable(steps[:i+1], err)))
		}
		if done != nil {
			done(s)
		}
	}
	return nil
}

// undoable leaves out the failed step where it failed because the object is
// another's: its undo would find that object by name.
func undoable(steps []Step, err error) []Step {
	if errors.Is(err, ErrNotOurs) {
		return steps[:len(steps)-1]
	}
	return steps
}

// Undo takes the steps back, last first. It tries what fails once more, never
// stops early, and returns all that failed.
func Undo(k Kernel, steps []Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := undo(k, steps[i]); err != nil {
			errs = append(errs, fmt.Errorf("undo %q: %w", firstLine(steps[i].String()), err))
		}
	}
	return errors.Join(errs...)
}

func undo(k Kernel, s Step) error {
	var err error
	for range 2 {
		if err = s.Undo(k); err == nil {
			err = failpoint.Hit("undid " + stepType(s))
		}
		if err == nil {
			return nil
		}
	}
	return err
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}

// UndoByMarks removes what bears a network's marks, for want of a journal that can
// be read: its links and tables. What it changed of the host's own, the
// forwarding of uplinks and a bridged NIC that was down, cannot be known.
func UndoByMarks(k Kernel, f Facts, network string) error {
	mark, table := networkMark(network), tableName(network)
	steps := slices.Clone(leaveAlone(netcfg.Programs))
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, AddBridge{Name: l.Name, Alias: mark})
		}
	}
	for _, family := range []nft.Family{nft.INet, nft.NetDev} {
		steps = append(steps, AddTable{Table: nft.Table{Family: family, Name: table, Comment: mark}})
	}
	for _, l := range f.Links {
		if zone := f.Firewalld.Zones[l.Name]; l.Alias == mark && zone != "" {
			z := firewalld.Zone{Name: zone, Link: l.Name}
			if a, ok := l.globalAddress(); ok {
				z.Rules = guestRules(a.Masked())
			}
			steps = append(steps, SetZone{z})
		}
		if strings.HasPrefix(l.Alias, mark+"/") {
			steps = append(steps, AddTap{Name: l.Name, Alias: l.Alias})
			for _, family := range []nft.Family{nft.Bridge, nft.INet} {
				steps = append(steps, AddTable{Table: nft.Table{Family: family, Name: traceTable(l.Name), Comment: l.Alias}})
			}
		}
	}
	return errors.Join(Undo(k, steps), SweepAccepts(k, network))
}
