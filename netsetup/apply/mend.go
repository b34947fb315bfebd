package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/step"
)

// ErrLost tells that a port is gone, which qnet cannot make again: QEMU has its other end.
var ErrLost = errors.New("it cannot be made again: restart the VM")

// Mend does those steps again, in order, that no longer hold, unless skip returns true for
// them. It goes on after an error. It returns the steps that it did, and all errors; ErrLost is
// that of a port.
func Mend(ctx context.Context, snapshot Snapshot, steps []step.Step, skip func(step.Step) bool) (mended []step.Step, err error) {
	var errs []error
	now := snapshot.Kernel
	anew := false // a link was made again
	for _, s := range steps {
		holds, err := s.Holds(ctx, now)
		if anew && goesWithBridge(s) {
			holds = false
		}
		if err == nil && (holds || skip(s)) {
			continue
		}
		if err == nil {
			err = again(ctx, snapshot.live, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mend %q: %w", firstLine(s.String()), err))
			continue
		}
		mended = append(mended, s)
		now = snapshot.live // the snapshot is out of date
		anew = anew || makesLink(s)
	}
	return mended, errors.Join(errs...)
}

// goesWithBridge reports whether the step's effect disappears with the bridge although Holds
// cannot tell: the hook of a netdev table, and DNS settings in systemd-resolved.
func goesWithBridge(s step.Step) bool {
	b, ok := s.(step.BridgeBound)
	return ok && b.GoesWithBridge()
}

// again does the step again, unless it makes a port.
func again(ctx context.Context, k step.Kernel, s step.Step) error {
	if _, ok := s.(step.PortMaker); ok {
		return ErrLost
	}
	return s.Do(ctx, k)
}

// Lost names the ports among the steps that are gone.
func Lost(ctx context.Context, snapshot Snapshot, steps []step.Step) []string {
	var names []string
	for _, s := range steps {
		name, ok := step.PortOf(s)
		if !ok {
			continue
		}
		if holds, err := s.Holds(ctx, snapshot.Kernel); err == nil && !holds {
			names = append(names, name)
		}
	}
	return names
}
