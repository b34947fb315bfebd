package sysbus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Peer is a program on the bus that runs, with a connection for the talk to it.
type Peer struct {
	bus  *dbus.Conn
	name string
}

// Dial connects to the bus for a talk to the program with that name, such as
// "org.freedesktop.resolve1". It returns an error that wraps ErrNone where there is
// no bus, and ErrNotRunning where the program does not run. The connection ends with
// ctx or Close.
func Dial(ctx context.Context, name string) (*Peer, error) {
	bus, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	owned, err := hasOwner(ctx, bus, name)
	if err == nil && !owned {
		err = ErrNotRunning
	}
	if err != nil {
		bus.Close() //nolint:errcheck // nothing was asked
		return nil, err
	}
	return &Peer{bus, name}, nil
}

// Absent reports whether the error of Dial says that the program does not run here.
func Absent(err error) bool { return errors.Is(err, ErrNone) || errors.Is(err, ErrNotRunning) }

// Close ends the connection.
func (p *Peer) Close() { p.bus.Close() } //nolint:errcheck // everything is answered by then

// Call calls a method, such as "org.freedesktop.resolve1.Manager.SetLinkDNS", of the
// program's object. The answer's Err is a dbus.Error where the program refuses.
func (p *Peer) Call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return p.bus.Object(p.name, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// Property reads a property, such as
// "org.freedesktop.NetworkManager.Device.Managed", of the program's object.
func Property[T any](ctx context.Context, p *Peer, path dbus.ObjectPath, name string) (T, error) {
	var value T
	var v dbus.Variant
	of, key := split(name)
	err := p.Call(ctx, path, properties+".Get", of, key).Store(&v)
	if err == nil {
		err = v.Store(&value)
	}
	if err != nil {
		return value, fmt.Errorf("read %s: %w", name, err)
	}
	return value, nil
}

// SetProperty writes a property of the program's object.
func (p *Peer) SetProperty(ctx context.Context, path dbus.ObjectPath, name string, value any) error {
	of, key := split(name)
	return p.Call(ctx, path, properties+".Set", of, key, dbus.MakeVariant(value)).Err
}

// Properties reads all properties of one interface of the program's object.
func (p *Peer) Properties(ctx context.Context, path dbus.ObjectPath, of string) (map[string]dbus.Variant, error) {
	var values map[string]dbus.Variant
	err := p.Call(ctx, path, properties+".GetAll", of).Store(&values)
	return values, err
}

func split(name string) (of, key string) {
	i := strings.LastIndex(name, ".")
	return name[:i], name[i+1:]
}

func hasOwner(ctx context.Context, bus *dbus.Conn, name string) (owned bool, err error) {
	err = bus.BusObject().CallWithContext(ctx, busInterface+".NameHasOwner", 0, name).Store(&owned)
	return owned, err
}

// Running returns which of the names have an owner on the bus; none where there is no
// bus.
func Running(ctx context.Context, names ...string) []string {
	bus, err := connect(ctx)
	if err != nil {
		return nil
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	var running []string
	for _, name := range names {
		if owned, err := hasOwner(ctx, bus, name); err == nil && owned {
			running = append(running, name)
		}
	}
	return running
}
