package netsetup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
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
// the undo met, which wraps ErrLeft.
func Apply(k Kernel, steps []Step, done func(Step)) error {
	for i, s := range steps {
		err := s.Do(k)
		if err == nil {
			err = failpoint.Hit("did " + stepType(s))
		}
		if err != nil {
			undoErr := Undo(k, undoable(steps[:i+1], err))
			if undoErr != nil {
				undoErr = fmt.Errorf("%w: %w", ErrLeft, undoErr)
			}
			return errors.Join(&StepError{Step: s, Err: err}, undoErr)
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
//
// What the kernel takes long for comes together at the end, in the turn of the
// first step that made a link: links are set down in their turn, so that nothing
// passes any more, and then deleted in one request, beside the tables.
func Undo(k Kernel, steps []Step) error {
	u := undoing{k: k}
	first := slices.IndexFunc(steps, makesLink)
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		_, isTable := s.(AddTable)
		switch {
		case makesLink(s):
			u.try(s, func() error { return u.doom(s) })
		case isTable && i > first && first >= 0:
			u.tables = append(u.tables, s)
		default:
			u.try(s, func() error { return s.Undo(k) })
		}
		if i == first {
			u.finish(s)
		}
	}
	return errors.Join(u.errs...)
}

// undoing is one Undo.
type undoing struct {
	k      Kernel
	links  []string // set down
	tables []Step
	errs   []error
}

// try tries to undo a step, twice if need be.
func (u *undoing) try(s Step, f func() error) {
	var err error
	for range 2 {
		if err = f(); err == nil {
			err = failpoint.Hit("undid " + stepType(s))
		}
		if err == nil {
			return
		}
	}
	u.errs = append(u.errs, fmt.Errorf("undo %q: %w", firstLine(s.String()), err))
}

// doom sets down the link that a step made, if it is there and bears our mark.
func (u *undoing) doom(s Step) error {
	name, err := s.(linkMaker).made(u.k)
	if err != nil || name == "" || slices.Contains(u.links, name) {
		return err
	}
	err = u.k.SetUp(name, false)
	if err == nil {
		u.links = append(u.links, name)
	}
	return err
}

// finish deletes the links and the tables; first is the step whose turn it is.
func (u *undoing) finish(first Step) {
	deleted := make(chan error, 1)
	go func() { deleted <- u.k.DelLinks(u.links) }()
	for _, s := range u.tables {
		u.try(s, func() error { return s.Undo(u.k) })
	}
	err := <-deleted
	if err != nil {
		err = u.k.DelLinks(u.links)
	}
	if err != nil {
		u.errs = append(u.errs, fmt.Errorf("undo %q: %w", firstLine(first.String()), err))
	}
}

// linkMaker is a step that makes a link.
type linkMaker interface {
	// made returns the name of the link if it is there and bears our mark.
	made(k Kernel) (string, error)
}

func makesLink(s Step) bool {
	_, ok := s.(linkMaker)
	return ok
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
// be read: its links and tables. A NIC that is a port of its bridge gets what the
// bridge has. What else it changed of the host's own, the forwarding of uplinks and
// a bridged NIC that was down, cannot be known.
func UndoByMarks(k Kernel, f Facts, network string) error {
	mark, table := networkMark(network), TableName(network)
	steps := slices.Clone(leaveAlone(managers.Programs))
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, bridgeByMark(k, f, l)...)
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
	pins, err := strayPins(k, f, mark)
	return errors.Join(err, Undo(k, append(steps, pins...)), SweepAccepts(k, network))
}
