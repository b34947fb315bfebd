package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/step"
)

// ErrLost tells that something is gone that cannot be made again: a tap, whose
// other end is QEMU's.
var ErrLost = errors.New("it cannot be made again")

// Mend does those steps again, in order, that no longer hold, unless skip returns true
// for them. It returns the steps it did, goes on after an error, and returns all errors.
func Mend(ctx context.Context, seen Snapshot, steps []step.Step, skip func(step.Step) bool) (mended []step.Step, err error) {
	var errs []error
	now := seen.Kernel
	anew := false // the bridge was made again
	for _, s := range steps {
		holds, err := s.Holds(ctx, now)
		if anew && goesWithBridge(s) {
			holds = false
		}
		if err == nil && (holds || skip(s)) {
			continue
		}
		if err == nil {
			err = again(ctx, seen.fresh, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mend %q: %w", firstLine(s.String()), err))
			continue
		}
		mended = append(mended, s)
		now = seen.fresh // what was seen no longer is so
		anew = anew || makesLink(s)
	}
	return mended, errors.Join(errs...)
}

func goesWithBridge(s step.Step) bool {
	w, ok := s.(step.BridgeBound)
	return ok && w.GoesWithBridge()
}

// again does the step again. A port cannot be made again: its other end is QEMU's.
func again(ctx context.Context, k step.Kernel, s step.Step) error {
	if _, ok := s.(step.PortMaker); ok {
		return ErrLost
	}
	return s.Do(ctx, k)
}

// Lost names the ports among the steps that are gone.
func Lost(ctx context.Context, seen Snapshot, steps []step.Step) []string {
	var names []string
	for _, s := range steps {
		name, ok := step.PortOf(s)
		if !ok {
			continue
		}
		if holds, err := s.Holds(ctx, seen.Kernel); err == nil && !holds {
			names = append(names, name)
		}
	}
	return names
}
