package standstill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Why qnet itself has a guest stand still, in words for the user.
const (
	ByUser    = "by qnet pause"
	ForSaving = "being saved"
)

// ErrStands is wrapped by the error of Hold for a guest that stands still for a reason of
// its own: its disk, a panic, its own sleep.
var ErrStands = errors.New("its guest stands still")

// Hold has the guest stand still until Release, for the reason given, and reports whether it
// ran. A guest that was paused before stays so, for the reason that it was paused for.
func (g *Guest) Hold(ctx context.Context, why string) (ran bool, err error) {
	h, err := g.Halt(ctx)
	switch {
	case err != nil:
		return false, err
	case h.Kind == Paused && h.plain():
		return false, nil
	case h.Kind != Runs:
		return false, fmt.Errorf("%w (%s)", ErrStands, cmp.Or(h.Short(), string(h.Kind)))
	}
	g.held.Store(&why)
	return true, g.monitor.Execute(ctx, "stop", nil, nil)
}

// Release lets a paused guest go on, and wakes one that sleeps. It reports whether the guest
// stood still.
func (g *Guest) Release(ctx context.Context) (stood bool, err error) {
	h, err := g.Halt(ctx)
	switch {
	case err != nil || h.Kind == Runs:
		return false, err
	case h.Kind == Suspended:
		return true, g.monitor.Execute(ctx, "system_wakeup", nil, nil)
	case h.Kind != Paused || h.Why == whyInternal || h.Why == whyShutdown:
		return false, fmt.Errorf("%w (%s)", ErrStands, cmp.Or(h.Short(), string(h.Kind)))
	}
	return true, g.resume(ctx)
}

// plain reports whether a command to QEMU paused the guest, and nothing else.
func (h Halt) plain() bool { return h.Why == "" || h.Why == ByUser || h.Why == ForSaving }

// heldFor returns why qnet has the guest stand still, "" if it does not.
func (g *Guest) heldFor() string {
	if why := g.held.Load(); why != nil {
		return *why
	}
	return ""
}
