// Package resolved tells systemd-resolved of links over D-Bus, as resolvectl(1)
// does. Nothing is written to its files by hand, and what it was told of a link
// goes with the link.
//
// Where it does not run, in this network namespace, nothing happens: it is never
// started. Functions may be called concurrently; each takes a connection of its own.
package resolved

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

// systemd-resolved's D-Bus interface, org.freedesktop.resolve1(5).
const (
	busItself    = "org.freedesktop.DBus"
	hasOwner     = busItself + ".NameHasOwner"
	ownerChanged = "NameOwnerChanged"

	busName = "org.freedesktop.resolve1"
	busPath = "/org/freedesktop/resolve1"
	manager = "org.freedesktop.resolve1.Manager."
	ofLink  = "org.freedesktop.resolve1.Link"

	linkBusy = "org.freedesktop.resolve1.LinkBusy"
)

// ErrManaged tells that systemd-networkd manages the link, so that nobody else may
// tell systemd-resolved of it.
var ErrManaged = errors.New("systemd-networkd tells it of this link")

// retryTime is between two tries: it hears late of a new link.
const retryTime = 100 * time.Millisecond

// Tell tells it of a link, by its index, what the settings say, until the context
// ends; runs is whether it runs.
func Tell(ctx context.Context, link int, s Settings) (runs bool, err error) {
	for {
		runs, err = converse(ctx, func(call caller) error { return tell(call, link, s) })
		if err == nil || errors.Is(err, ErrManaged) || !wait(ctx, retryTime) {
			return runs, err
		}
	}
}

func tell(call caller, link int, s Settings) error {
	for _, c := range s.calls(link) {
		if err := call(c.method, nil, c.args...); err != nil {
			return fmt.Errorf("tell systemd-resolved: %s: %w", c.method, err)
		}
	}
	return nil
}

// Revert takes back whatever it was told of the link: resolvectl revert LINK.
func Revert(ctx context.Context, link int) error {
	_, err := converse(ctx, func(call caller) error { return call("RevertLink", nil, int32(link)) })
	return err
}

// Runs reports whether it runs and answers.
func Runs(ctx context.Context) bool {
	runs, err := converse(ctx, func(caller) error { return nil })
	return runs && err == nil
}

// Watch calls running if it runs, and whenever it has started, until the context
// ends. It returns nil then, and the error where there is no bus, or no longer.
func Watch(ctx context.Context, running func()) error {
	bus, err := managers.SystemBus(ctx)
	if err != nil {
		return fmt.Errorf("watch systemd-resolved: %w", err)
	}
	defer bus.Close() //nolint:errcheck // nothing is said any more
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	err = bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(busItself), dbus.WithMatchMember(ownerChanged), dbus.WithMatchArg(0, busName))
	if err != nil {
		return fmt.Errorf("watch systemd-resolved: %w", err)
	}
	var runs bool
	if err := bus.BusObject().CallWithContext(ctx, hasOwner, 0, busName).Store(&runs); err != nil {
		return fmt.Errorf("watch systemd-resolved: %w", err)
	}
	for {
		if runs {
			running()
		}
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			if !ok {
				return errors.New("watch systemd-resolved: the system bus hung up")
			}
			// Name, old owner, new owner.
			runs = s.Name == busItself+"."+ownerChanged && len(s.Body) == 3 && s.Body[2] != ""
		}
	}
}

// Look reads what it was told of a link, as far as that differs from a link that
// it was told nothing of: the loopback. It returns the zero Settings where it does
// not run.
func Look(ctx context.Context, link int) (Settings, error) {
	var s Settings
	_, err := converse(ctx, func(call caller) error {
		got, err := read(call, link)
		if err != nil {
			return err
		}
		plain, err := read(call, 1)
		if err != nil {
			return err
		}
		s = got.without(plain)
		return nil
	})
	if err != nil {
		return Settings{}, fmt.Errorf("ask systemd-resolved: %w", err)
	}
	return s, nil
}

func read(call caller, link int) (Settings, error) {
	var path dbus.ObjectPath
	if err := call("GetLink", &path, int32(link)); err != nil {
		return Settings{}, err
	}
	var properties map[string]dbus.Variant
	if err := call(string(path), &properties); err != nil {
		return Settings{}, err
	}
	return decode(properties)
}

// caller calls a method of the manager, or with an object's path asks for all
// properties of that link, and stores the answer.
type caller func(what string, answer any, args ...any) error

// converse talks to it where it runs.
func converse(ctx context.Context, f func(caller) error) (runs bool, err error) {
	bus, err := managers.SystemBus(ctx)
	if err != nil {
		return false, nil // a host without a system bus has no systemd-resolved
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	err = bus.BusObject().CallWithContext(ctx, hasOwner, 0, busName).Store(&runs)
	if err != nil || !runs {
		return false, nil // nor need every bus know of it
	}
	return true, f(func(what string, answer any, args ...any) error {
		object, method := dbus.ObjectPath(busPath), manager+what
		if what[0] == '/' {
			object, method, args = dbus.ObjectPath(what), "org.freedesktop.DBus.Properties.GetAll", []any{ofLink}
		}
		call := bus.Object(busName, object).CallWithContext(ctx, method, 0, args...)
		if answer == nil || call.Err != nil {
			return explain(call.Err)
		}
		return call.Store(answer)
	})
}

func explain(err error) error {
	var answer dbus.Error
	switch {
	case !errors.As(err, &answer):
		return err
	case answer.Name == linkBusy:
		return fmt.Errorf("%w: %w", ErrManaged, err)
	}
	return err
}

// wait reports false when the context ended before the time.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Server is a name server.
type Server struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"` // 0: 53, or 853 with TLS
	Name    string     `json:"name,omitempty"` // for TLS
}

// Domain is a search domain, or one whose names the link's servers are asked for.
type Domain struct {
	Name        string `json:"name"`
	RoutingOnly bool   `json:"routing_only,omitempty"`
}
