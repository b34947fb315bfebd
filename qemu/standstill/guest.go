// Package standstill follows, over QMP, whether a guest runs, and why not: a full disk, a
// panic, a suspend, a person's command. [Guest.Watch] tells each change and each incident,
// and lets a guest go on that a disk stopped. [Guest.Press] presses the power button of a
// guest that may stand still.
//
// It decides by what QEMU answers (query-status, query-block), so a lost event loses
// nothing but its words. A panic it tells from the event alone, because QEMU may be about
// to end, and must not be asked then, see [Guest.Ends]. All methods of a Guest may be called concurrently.
package standstill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

// Monitor is the QMP connection, see qmp.Monitor.
type Monitor interface {
	// Execute runs a command and decodes what it returns.
	Execute(ctx context.Context, name string, args, result any) error
	// Events returns the events from now on, until the connection or ctx ends.
	Events(ctx context.Context) (<-chan goqmp.Event, error)
}

// Disk is a disk of the guest: the i-th is QEMU's device "disk<i>" and node "image<i>".
type Disk struct {
	File  string // as the user names it
	Grows string // the directory in which a temporary overlay grows; "" without one
}

// Guest is the guest of a QEMU.
type Guest struct {
	monitor Monitor
	disks   []Disk

	panicked atomic.Bool            // the guest said so, and was not reset since
	ends     atomic.Bool            // see Ends
	sleeps   atomic.Bool            // see Sleeps
	pressed  atomic.Bool            // its power button was
	held     atomic.Pointer[string] // by Hold, and why

	mu         sync.Mutex // guards what follows
	lastErrors []string   // of the disks, as QEMU words them
}

// New returns the guest of a QEMU with these disks.
func New(m Monitor, disks []Disk) *Guest {
	return &Guest{monitor: m, disks: disks, lastErrors: make([]string, len(disks))}
}

// Note takes an event that says whether the guest has panicked, for Panicked, and whether
// QEMU ends, for Ends. Watch does so for the events that it gets.
func (g *Guest) Note(e goqmp.Event) {
	switch e.Event {
	case "GUEST_PANICKED":
		g.panicked.Store(true)
		if text(e, "action") == "poweroff" { // by -action panic=shutdown; SHUTDOWN follows
			g.ends.Store(true)
		}
	case "SHUTDOWN":
		g.ends.Store(true)
	case "STOP", "RESUME": // by -no-shutdown, QEMU stays behind a SHUTDOWN, and stops
		g.ends.Store(false)
		if e.Event == "RESUME" {
			g.held.Store(nil)
		}
	case "RESET":
		g.panicked.Store(false)
		g.ends.Store(false)
	}
}

// Panicked reports whether the guest panicked and was not reset since.
func (g *Guest) Panicked() bool { return g.panicked.Load() }

// Ends reports whether QEMU said that it is about to end. No command must be given to it
// then: QEMU 7.2 hangs for ever if one comes while it takes its monitors down
// (monitor_cleanup in monitor/monitor.c waits for the dispatcher of commands).
func (g *Guest) Ends() bool { return g.ends.Load() }

// errEnds is the error for a QEMU that is not asked, see Ends.
var errEnds = errors.New("QEMU ends")

// Sleeps reports whether the guest was suspended when Watch looked last.
func (g *Guest) Sleeps() bool { return g.sleeps.Load() }

// ErrDeaf is wrapped by the error of Press for a guest that it does not reach.
var ErrDeaf = errors.New("the guest cannot hear its power button")

// Press presses the power button. A guest that stands still would not hear it: Press wakes
// it before, or lets it go on. A guest that cannot, or that its disk has stopped again, is
// an error, which ends the rung. Press does nothing when QEMU is about to end.
func (g *Guest) Press(ctx context.Context) error {
	h, err := g.Halt(ctx)
	switch {
	case errors.Is(err, errEnds):
		return nil
	case err != nil:
		return err
	case h.Why == ForSaving: // it passes, and the VM may end by it
		return nil
	case !h.hears(), h.heals() && g.pressed.Load():
		return fmt.Errorf("%w (%s)", ErrDeaf, cmp.Or(h.Short(), string(h.Kind)))
	case h.Kind == Suspended:
		err = g.monitor.Execute(ctx, "system_wakeup", nil, nil)
	case h.Kind == Paused:
		err = g.resume(ctx)
	}
	g.pressed.Store(true)
	return errors.Join(err, g.monitor.Execute(ctx, "system_powerdown", nil, nil))
}
