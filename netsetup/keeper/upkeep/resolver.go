package keeper

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
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
	done   chan struct{} // closed when nothing is told any more
	told   atomic.Bool   // whether it was told of the link
}

// tellResolved tells it in the background, when it runs and whenever it has been
// started: no VM waits for it. failed gets the error of one that refuses.
func tellResolved(link int, server netip.Addr, failed func(error)) *hostResolver {
	ctx, cancel := context.WithCancel(context.Background())
	r := &hostResolver{link: link, cancel: cancel, done: make(chan struct{})}
	onlyOurs := false
	settings := resolved.Settings{
		Servers:      []resolved.Server{{Address: server}},
		Domains:      []resolved.Domain{{Name: dns.Domain, RoutingOnly: true}},
		DefaultRoute: &onlyOurs,
	}
	tell := func() {
		ctx, cancel := context.WithTimeout(ctx, tellTimeout)
		defer cancel()
		r.told.Store(true) // also if only a part of it
		_, err := resolved.Tell(ctx, link, settings)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			failed(err)
		}
	}
	go func() {
		defer close(r.done)
		for ctx.Err() == nil {
			if resolved.Watch(ctx, tell) != nil {
				wait(ctx, busRetry) // a system bus may be started later
			}
		}
	}()
	return r
}

// forget undoes it.
func (r *hostResolver) forget() error {
	r.cancel()
	<-r.done
	if !r.told.Load() {
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
