package sysbus

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

// queued is how many signals may wait for a watcher that is busy.
const queued = 64

// Watch calls changed with whether the program runs: at first, each time the program
// starts or ends, and each time one of its objects at the paths sends a signal. It
// returns nil when ctx ends, an error that wraps ErrNone where there is no bus, and
// another one where the bus hangs up.
func Watch(ctx context.Context, name string, changed func(runs bool), paths ...dbus.ObjectPath) error {
	bus, err := connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close() //nolint:errcheck // nothing is asked any more
	signals := make(chan *dbus.Signal, queued)
	bus.Signal(signals)
	matches := [][]dbus.MatchOption{{
		dbus.WithMatchSender(busInterface), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name),
	}}
	for _, path := range paths {
		matches = append(matches, []dbus.MatchOption{dbus.WithMatchSender(name), dbus.WithMatchObjectPath(path)})
	}
	for _, m := range matches {
		if err := bus.AddMatchSignalContext(ctx, m...); err != nil {
			return err
		}
	}
	runs, err := hasOwner(ctx, bus, name) // signals before the match are lost
	if err != nil {
		return err
	}
	changed(runs)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			switch {
			case !ok && ctx.Err() != nil:
				return nil
			case !ok:
				return errors.New("the system bus hung up")
			case s.Name == busInterface+".NameOwnerChanged" && len(s.Body) == 3:
				runs = s.Body[2] != "" // name, old owner, new owner
			case s.Sender == busInterface:
				continue // of this connection's own name
			}
			changed(runs)
		}
	}
}
