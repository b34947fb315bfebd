package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/dns"
)

// A conversation with systemd-resolved is bounded: in the background, where
// nobody waits, and at the end, where somebody does.
const (
	tellTimeout   = 10 * time.Second
	forgetTimeout = time.Second
	retryTime     = 200 * time.Millisecond
)

// systemd-resolved's D-Bus interface, org.freedesktop.resolve1(5).
const (
	resolvedName    = "org.freedesktop.resolve1"
	resolvedPath    = "/org/freedesktop/resolve1"
	resolvedManager = "org.freedesktop.resolve1.Manager."
)

// linkDNS and linkDomain are arguments of SetLinkDNS, a(iay), and SetLinkDomains, a(sb).
type linkDNS struct {
	Family  int32
	Address []byte
}

type linkDomain struct {
	Name        string
	RoutingOnly bool
}

// resolved has the host's systemd-resolved ask our server for names of our
// domain, and for none but those, as long as the network is there:
//
//	resolvectl dns BRIDGE ADDRESS; resolvectl domain BRIDGE ~qnet; resolvectl default-route BRIDGE no
type resolved struct {
	link   int
	cancel context.CancelFunc
	told   chan bool // whether it knows of the link
}

// tellResolved tells it in the background: no VM waits for it. failed gets the
// error of a systemd-resolved that runs and refuses.
func tellResolved(link int, server netip.Addr, failed func(error)) *resolved {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	r := &resolved{link: link, cancel: cancel, told: make(chan bool, 1)}
	calls := []call{
		{"SetLinkDNS", []any{int32(link), []linkDNS{{unix.AF_INET, server.AsSlice()}}}},
		{"SetLinkDomains", []any{int32(link), []linkDomain{{dns.Domain, true}}}},
		{"SetLinkDefaultRoute", []any{int32(link), false}},
	}
	go func() {
		runs, err := withResolved(ctx, calls)
		// A busy one may not have heard of the new link yet.
		for err != nil && wait(ctx, retryTime) {
			runs, err = withResolved(ctx, calls)
		}
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			failed(err)
		}
		r.told <- runs
	}()
	return r
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

// forget undoes it: resolvectl revert BRIDGE.
func (r *resolved) forget() error {
	r.cancel()
	if !<-r.told {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	_, err := withResolved(ctx, []call{{"RevertLink", []any{int32(r.link)}}})
	return err
}

// call is one of the manager's methods with its arguments.
type call struct {
	method string
	args   []any
}

// withResolved calls the manager where systemd-resolved runs; it does not start it.
func withResolved(ctx context.Context, calls []call) (runs bool, err error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, nil // a host without a system bus has no systemd-resolved
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	err = bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, resolvedName).Store(&runs)
	if err != nil || !runs {
		return false, nil // nor need every bus know of it
	}
	manager := bus.Object(resolvedName, resolvedPath)
	for _, c := range calls {
		if err := manager.CallWithContext(ctx, resolvedManager+c.method, 0, c.args...).Err; err != nil {
			return true, fmt.Errorf("tell systemd-resolved: %s: %w", c.method, err)
		}
	}
	return true, nil
}
