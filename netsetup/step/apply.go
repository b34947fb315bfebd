package step

import (
	"errors"
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/host"
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
				undoErr = fmt.Errorf("%w: %w", host.ErrLeft, undoErr)
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
	if errors.Is(err, host.ErrNotOurs) {
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
