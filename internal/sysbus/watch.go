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
	if err := subscribe(ctx, bus, name, paths); err != nil {
		return err
	}
	runs, err := hasOwner(ctx, bus, name) // what happened before the subscription sends no signal
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

// subscribe asks for the signals of the name's owner, and of the owner's objects.
func subscribe(ctx context.Context, bus *dbus.Conn, name string, paths []dbus.ObjectPath) error {
	err := bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(busInterface), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name))
	for _, path := range paths {
		err = errors.Join(err, bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(name), dbus.WithMatchObjectPath(path)))
	}
	return err
}
