package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Error is the failure of one step. Its text is that of Err.
type Error struct {
	Step step.Step
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Do does the steps in order and calls done, which may be nil, after each. When one fails, Do
// undoes that step and all before it, and returns an *Error. The errors of the undo are joined
// to that, and wrap host.ErrLeft.
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

// undoable leaves out the failed step if it failed because another program's object has its
// name: the step's Undo would find that object.
func undoable(steps []step.Step, err error) []step.Step {
	if errors.Is(err, host.ErrNotOurs) {
		return steps[:len(steps)-1]
	}
	return steps
}

// SplitOptional parts the steps that a network needs from those that it can do without.
func SplitOptional(steps []step.Step) (needed, optional step.List) {
	for _, s := range steps {
		if _, ok := s.(step.Optional); ok {
			optional = append(optional, s)
		} else {
			needed = append(needed, s)
		}
	}
	return needed, optional
}

// Adopt takes over what belonged to the dead process that did the steps: its nftables tables.
// All other effects outlive the process. Adopt stops at the first error.
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
