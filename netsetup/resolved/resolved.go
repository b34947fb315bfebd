// Package resolved tells systemd-resolved which name servers and domains a link has,
// over D-Bus (org.freedesktop.resolve1(5)), as resolvectl(1) does. It writes no files.
// systemd-resolved forgets the settings of a link with the link.
//
// Where systemd-resolved does not run in the caller's network namespace, nothing
// happens: no call starts it. Functions may be called concurrently; each has a
// connection of its own.
package resolved

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// systemd-resolved's D-Bus interface, org.freedesktop.resolve1(5).
const (
	busName = "org.freedesktop.resolve1"
	busPath = "/org/freedesktop/resolve1"
	manager = "org.freedesktop.resolve1.Manager."
	ofLink  = "org.freedesktop.resolve1.Link"

	linkBusy = "org.freedesktop.resolve1.LinkBusy"

	// loopback is the index of lo, which has the settings that every link begins with.
	loopback = 1
)

// ErrManaged is wrapped by the errors of links that systemd-networkd manages:
// systemd-resolved takes their settings from systemd-networkd alone.
var ErrManaged = errors.New("systemd-networkd manages the link")

// retryTime is the pause between two tries: systemd-resolved learns late of a new link.
const retryTime = 100 * time.Millisecond

// Tell gives systemd-resolved the settings of a link, by the link's index. It tries
// again until it succeeds, the error is ErrManaged, or ctx ends. runs reports whether
// systemd-resolved runs.
func Tell(ctx context.Context, link int, s Settings) (runs bool, err error) {
	for {
		runs, err = with(ctx, func(p *sysbus.Peer) error { return tell(ctx, p, link, s) })
		if err == nil || errors.Is(err, ErrManaged) {
			return runs, err
		}
		select {
		case <-ctx.Done():
			return runs, err
		case <-time.After(retryTime):
		}
	}
}

func tell(ctx context.Context, p *sysbus.Peer, link int, s Settings) error {
	for _, c := range s.calls(link) {
		if err := explain(p.Call(ctx, busPath, manager+c.method, c.args...).Err); err != nil {
			return fmt.Errorf("tell systemd-resolved: %s: %w", c.method, err)
		}
	}
	return nil
}

// Revert takes all settings of the link back.
//
//	resolvectl revert LINK
func Revert(ctx context.Context, link int) error {
	_, err := with(ctx, func(p *sysbus.Peer) error {
		return explain(p.Call(ctx, busPath, manager+"RevertLink", int32(link)).Err)
	})
	return err
}

// Watch calls running at first, if systemd-resolved runs, and each time it has started.
// It returns nil when ctx ends, and an error where the system bus is missing or hangs up.
func Watch(ctx context.Context, running func()) error {
	err := sysbus.Watch(ctx, busName, func(runs bool) {
		if runs {
			running()
		}
	})
	if err != nil {
		return fmt.Errorf("watch systemd-resolved: %w", err)
	}
	return nil
}

// Observe reads the settings of a link, by its index, as far as they differ from those
// that every link begins with. It returns the zero Settings where systemd-resolved does
// not run.
func Observe(ctx context.Context, link int) (Settings, error) {
	var s Settings
	_, err := with(ctx, func(p *sysbus.Peer) error {
		got, err := read(ctx, p, link)
		if err != nil {
			return err
		}
		plain, err := read(ctx, p, loopback)
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

func read(ctx context.Context, p *sysbus.Peer, link int) (Settings, error) {
	var path dbus.ObjectPath
	if err := p.Call(ctx, busPath, manager+"GetLink", int32(link)).Store(&path); err != nil {
		return Settings{}, explain(err)
	}
	properties, err := p.Properties(ctx, path, ofLink)
	if err != nil {
		return Settings{}, explain(err)
	}
	return decode(properties)
}

// with lets f talk to systemd-resolved, and does nothing where that does not run.
func with(ctx context.Context, f func(*sysbus.Peer) error) (runs bool, err error) {
	p, err := sysbus.Dial(ctx, busName)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return false, context.Cause(ctx)
	case err != nil:
		return false, nil // a host without a system bus has none, and not every bus knows it
	}
	defer p.Close()
	return true, f(p)
}

// explain marks the error of a link that systemd-networkd manages.
func explain(err error) error {
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == linkBusy {
		return fmt.Errorf("%w: %w", ErrManaged, err)
	}
	return err
}
