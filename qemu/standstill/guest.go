// Package standstill follows, over QMP, whether a guest runs, and why not: a full disk, a
// panic, a suspend, a person's command. [Guest.Watch] tells each change and each incident,
// and lets a guest go on that a disk stopped. [Guest.Press] presses the power button of a
// guest that may stand still.
//
// It decides by what QEMU answers (query-status, query-block), so a lost event loses
// nothing but its words. All methods of a Guest may be called concurrently.
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

	panicked atomic.Bool // the guest said so, and was not reset since
	sleeps   atomic.Bool // see Sleeps
	pressed  atomic.Bool // its power button was

	mu         sync.Mutex // guards what follows
	lastErrors []string   // of the disks, as QEMU words them
}

// New returns the guest of a QEMU with these disks.
func New(m Monitor, disks []Disk) *Guest {
	return &Guest{monitor: m, disks: disks, lastErrors: make([]string, len(disks))}
}

// Note takes an event that says whether the guest has panicked, for Panicked. Watch does
// so for the events that it gets.
func (g *Guest) Note(e goqmp.Event) {
	switch e.Event {
	case "GUEST_PANICKED":
		g.panicked.Store(true)
	case "RESET":
		g.panicked.Store(false)
	}
}

// Panicked reports whether the guest panicked and was not reset since.
func (g *Guest) Panicked() bool { return g.panicked.Load() }

// Sleeps reports whether the guest was suspended when Watch looked last.
func (g *Guest) Sleeps() bool { return g.sleeps.Load() }

// ErrDeaf is wrapped by the error of Press for a guest that it does not reach.
var ErrDeaf = errors.New("the guest cannot hear its power button")

// Press presses the power button. A guest that stands still would not hear it: Press wakes
// it before, or lets it go on. A guest that cannot, or that its disk has stopped again, is
// an error, which ends the rung.
func (g *Guest) Press(ctx context.Context) error {
	h, err := g.Halt(ctx)
	switch {
	case err != nil:
		return err
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
