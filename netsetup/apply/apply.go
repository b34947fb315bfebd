package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Error is the failure of one step.
type Error struct {
	Step step.Step
	Err  error
}

// Error says what failed in the step's own words.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Do does the steps in order and calls done after each. When one fails, it
// and all before it are undone, and a *Error is returned, joined with what
// the undo met, which wraps ErrLeft.
func Do(ctx context.Context, k step.Kernel, steps []step.Step, done func(step.Step)) error {
	for i, s := range steps {
		err := s.Do(ctx, k)
		if err == nil {
			err = failpoint.Hit("did " + step.TypeName(s))
		}
		if err != nil {
			undoErr := Undo(ctx, k, undoable(steps[:i+1], err))
			if undoErr != nil {
				undoErr = fmt.Errorf("%w: %w", host.ErrLeft, undoErr)
			}
			return errors.Join(&Error{Step: s, Err: err}, undoErr)
		}
		if done != nil {
			done(s)
		}
	}
	return nil
}

// undoable leaves out the failed step where it failed because the object is
// another's: its undo would find that object by name.
func undoable(steps []step.Step, err error) []step.Step {
	if errors.Is(err, host.ErrNotOurs) {
		return steps[:len(steps)-1]
	}
	return steps
}

// Undo takes the steps back, last first. It tries what fails once more, never
// stops early, not even when the context ends, and returns all errors.
//
// The kernel takes long to delete links. So in their turn links are only set down, so
// that nothing passes any more; in the turn of the first step that made a link, one
// request deletes them all, beside the tables.
func Undo(ctx context.Context, k step.Kernel, steps []step.Step) error {
	u := undoing{ctx: context.WithoutCancel(ctx), k: k}
	first := slices.IndexFunc(steps, makesLink)
	for i, s := range slices.Backward(steps) {
		_, isLate := s.(step.Concurrent)
		switch {
		case makesLink(s):
			u.try(s, func() error { return u.setDown(s) })
		case isLate && i > first && first >= 0:
			u.late = append(u.late, s)
		default:
			u.try(s, func() error { return s.Undo(u.ctx, k) })
		}
		if i == first {
			u.finish(s)
		}
	}
	return errors.Join(u.errs...)
}

// undoing is one Undo.
type undoing struct {
	ctx   context.Context //nolint:containedctx // of this one call
	k     step.Kernel
	links []string // set down
	late  []step.Step
	errs  []error
}

// try tries to undo a step, twice if need be.
func (u *undoing) try(s step.Step, f func() error) {
	var err error
	for range 2 {
		if err = f(); err == nil {
			err = failpoint.Hit("undid " + step.TypeName(s))
		}
		if err == nil {
			return
		}
	}
	u.errs = append(u.errs, fmt.Errorf("undo %q: %w", firstLine(s.String()), err))
}

// setDown sets down the link that a step made, if it is there and bears our mark.
func (u *undoing) setDown(s step.Step) error {
	name, err := s.(step.LinkMaker).Made(u.ctx, u.k)
	if err != nil || name == "" || slices.Contains(u.links, name) {
		return err
	}
	err = u.k.SetUp(u.ctx, name, false)
	if err == nil {
		u.links = append(u.links, name)
	}
	return err
}

// finish deletes the links and undoes the late steps; first is the step whose turn it is.
func (u *undoing) finish(first step.Step) {
	deleted := make(chan error, 1)
	go func() { deleted <- u.k.DelLinks(u.ctx, u.links) }()
	for _, s := range u.late {
		u.try(s, func() error { return s.Undo(u.ctx, u.k) })
	}
	err := <-deleted
	if err != nil {
		err = u.k.DelLinks(u.ctx, u.links)
	}
	if err != nil {
		u.errs = append(u.errs, fmt.Errorf("undo %q: %w", firstLine(first.String()), err))
	}
}

func makesLink(s step.Step) bool {
	_, ok := s.(step.LinkMaker)
	return ok
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// SplitOptional parts the steps that make a network from those that it stands without.
func SplitOptional(steps []step.Step) (needed, rest step.List) {
	for _, s := range steps {
		if _, ok := s.(step.Optional); ok {
			rest = append(rest, s)
		} else {
			needed = append(needed, s)
		}
	}
	return needed, rest
}

// Adopt takes over what a dead keeper's steps left to their process: its nftables
// tables. The rest of its work is as it was.
func Adopt(ctx context.Context, k step.Kernel, steps []step.Step) error {
	for _, s := range steps {
		if a, ok := s.(step.Adopter); ok {
			if err := a.Adopt(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// UndoScript joins the commands that undo the steps, last step first.
func UndoScript(steps []step.Step) string {
	var lines []string
	for i := len(steps) - 1; i >= 0; i-- {
		if u := steps[i].UndoString(); u != "" {
			lines = append(lines, u)
		}
	}
	return strings.Join(lines, "\n")
}
