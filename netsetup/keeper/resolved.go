package keeper

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/resolved"
)

// A conversation with systemd-resolved is bounded: in the background, where
// nobody waits, and at the end, where somebody does.
const (
	tellTimeout   = 10 * time.Second
	forgetTimeout = time.Second
)

// hostResolver has the host's systemd-resolved ask our server for names of our
// domain, and for none but those, as long as the network is there.
type hostResolver struct {
	link   int
	cancel context.CancelFunc
	told   chan bool // whether it knows of the link
}

// tellResolved tells it in the background: no VM waits for it. failed gets the
// error of a systemd-resolved that runs and refuses.
func tellResolved(link int, server netip.Addr, failed func(error)) *hostResolver {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	r := &hostResolver{link: link, cancel: cancel, told: make(chan bool, 1)}
	onlyOurs := false
	settings := resolved.Settings{
		Servers:      []resolved.Server{{Address: server}},
		Domains:      []resolved.Domain{{Name: dns.Domain, RoutingOnly: true}},
		DefaultRoute: &onlyOurs,
	}
	go func() {
		runs, err := resolved.Tell(ctx, link, settings)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			failed(err)
		}
		r.told <- runs
	}()
	return r
}

// forget undoes it.
func (r *hostResolver) forget() error {
	r.cancel()
	if !<-r.told {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	return resolved.Revert(ctx, r.link)
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
