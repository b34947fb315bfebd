package upkeep

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/resolved"
)

const (
	// tellTimeout bounds a call to systemd-resolved while VMs run, when nothing waits
	// for it; revertTimeout bounds the one at the end, which a VM's end waits for.
	tellTimeout   = 10 * time.Second
	revertTimeout = time.Second
	// busInterval is the time between two looks for a system bus that does not run yet.
	busInterval = time.Second
)

// Resolver makes the host's systemd-resolved ask the network's DNS server for names
// of the network's domain, and for no others, as long as the network is there.
type Resolver struct {
	base
	changed signal

	mu     sync.Mutex // guards what follows
	link   int        // 0 while there is no server
	server netip.Addr
}

// Serve says which server serves on which link. It may be called at any time.
func (r *Resolver) Serve(link int, server netip.Addr) {
	r.mu.Lock()
	r.link, r.server = link, server
	r.mu.Unlock()
	r.changed.set()
}

func (r *Resolver) String() string { return "resolver" }

// Run tells systemd-resolved of the server when it runs and whenever it has been
// started, and takes that back at the end.
func (r *Resolver) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		link, server := r.link, r.server
		r.mu.Unlock()
		var told atomic.Bool
		following, cancel := context.WithCancel(ctx)
		var follower sync.WaitGroup
		if link != 0 {
			follower.Go(func() { r.follow(following, link, server, &told) })
		}
		select {
		case <-ctx.Done():
		case <-r.changed:
		}
		cancel()
		follower.Wait()
		if told.Load() {
			r.revert(ctx, link)
		}
	}
	return nil
}

// follow tells systemd-resolved whenever it starts.
func (r *Resolver) follow(ctx context.Context, link int, server netip.Addr, told *atomic.Bool) {
	onlyOurs := false
	settings := resolved.Settings{
		Servers:      []resolved.Server{{Address: server}},
		Domains:      []resolved.Domain{{Name: dns.Domain, RoutingOnly: true}},
		DefaultRoute: &onlyOurs,
	}
	tell := func() {
		call, cancel := context.WithTimeout(ctx, tellTimeout)
		defer cancel()
		told.Store(true) // also if only a part arrives
		_, err := resolved.Tell(call, link, settings)
		if err != nil && ctx.Err() == nil {
			r.Network.Note(keeper.Note{Subject: "systemd-resolved", Text: err.Error()})
		}
	}
	for ctx.Err() == nil {
		if resolved.Watch(ctx, tell) != nil {
			wait(ctx, busInterval) // a system bus may be started later
		}
	}
}

func (r *Resolver) revert(ctx context.Context, link int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertTimeout)
	defer cancel()
	if err := resolved.Revert(ctx, link); err != nil {
		r.Log.Warn("stop services", "error", err)
	}
}
