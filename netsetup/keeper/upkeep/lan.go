package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// lanInterval is the time between two looks at the LAN without an event: the host's
// sleep causes none.
const lanInterval = 5 * time.Second

// lan looks after a network in mode bridge: the uplink's cable and MTU, and whether
// the LAN takes the guests' frames.
type lan struct {
	base
	changed signal
	mender  *mender
	cable   cable
	mtu     int                // of the LAN, in bytes
	checked bool               // the LAN was looked for again
	asked   map[string]*asking // by tap

	pace      pace
	workers   sync.WaitGroup // checks and questions that run; Run joins them
	stopCheck func()         // ends the check that runs
}

// newLAN is called before the network serves: it reads the journal.
func newLAN(ctx context.Context, b base, changed signal, m *mender) *lan {
	l := &lan{base: b, changed: changed, mender: m, asked: map[string]*asking{}, stopCheck: func() {}}
	l.mtu = l.mtuAtFirst(ctx)
	l.cable.yields = b.Journal.MetricsRaised() // a dead keeper left it so
	l.cable.pulled = l.cable.yields
	return l
}

func (l *lan) String() string { return "lan" }

// Run looks at the uplink after each event and at intervals.
func (l *lan) Run(ctx context.Context) error {
	defer l.workers.Wait()
	tick := time.NewTicker(lanInterval)
	defer tick.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-again.C:
		case <-l.changed:
		}
		var next time.Duration
		cost := measure(func() { next = l.look(ctx) })
		if next > 0 {
			again.Reset(next)
		}
		wait(ctx, l.pace.after(cost))
	}
}

// look looks once and does what is to do; it returns after how long to look again, 0
// for at the next event.
func (l *lan) look(ctx context.Context) time.Duration {
	uplink, ok, err := l.Host.Link(ctx, l.uplink())
	if err != nil || !ok {
		return 0 // unplugged for good, or just being undone
	}
	d := l.cable.look(uplink.Carrier && uplink.Up, l.Clocks())
	l.do(ctx, d, uplink)
	l.followMTU(ctx, uplink)
	asks := l.askForGuests(ctx, uplink)
	return cmp.Or(min(d.again, asks), d.again, asks)
}

func (l *lan) do(ctx context.Context, d doing, uplink host.Link) {
	if d.slept {
		l.mender.changed.set() // it puts right what is not as it was
	}
	if d.yield {
		l.yield(ctx, uplink)
	}
	if d.restore {
		l.restore(ctx, uplink)
	}
	if d.replug {
		l.Network.Replug()
	}
	if d.check {
		l.asked, l.checked = map[string]*asking{}, true
		l.startCheck(ctx, uplink)
	}
}

// note tells something about the uplink.
func (l *lan) note(format string, args ...any) {
	l.Network.Note(keeper.Note{Subject: "uplink " + l.uplink(), Text: fmt.Sprintf(format, args...)})
}

// followMTU gives the bridge and the VMs' links the LAN's MTU when that changes: a
// smaller one would swallow what the bridge still takes.
func (l *lan) followMTU(ctx context.Context, uplink host.Link) {
	mtu, err := l.lanMTU(ctx, uplink)
	if err != nil {
		l.Log.Warn("look for the MTU", "error", err)
		return
	}
	if mtu == l.mtu {
		return
	}
	err = l.Network.WhileRunning(ctx, func() error {
		if err := journal.FollowMTU(ctx, l.Host.Kernel(), l.Journal, mtu); err != nil {
			return err
		}
		return l.save()
	})
	if ctx.Err() != nil {
		return
	}
	was := l.mtu
	l.mtu = mtu
	if err != nil {
		l.note("the MTU of %s was %d and is %d, and the VMs' links cannot follow: %v", uplink.Name, was, mtu, err)
		return
	}
	l.note("the MTU of %s was %d and is %d: the VMs' links follow; a guest keeps its own until it is told", uplink.Name, was, mtu)
}

// mtuAtFirst is the LAN's MTU as the VMs' links have it. They keep it until it
// changes: the administrator of a bridge that was there may have set that to another
// than its ports'.
func (l *lan) mtuAtFirst(ctx context.Context) int {
	uplink, ok, err := l.Host.Link(ctx, l.uplink())
	if err == nil && ok && uplink.Kind == "bridge" {
		if mtu, err := l.lanMTU(ctx, uplink); err == nil {
			return mtu
		}
	}
	return l.plan.MTU
}

// lanMTU is the uplink's. If the uplink is a bridge that was there, it is the smallest
// of its other ports', because our ports hold the bridge's own down (F54).
func (l *lan) lanMTU(ctx context.Context, uplink host.Link) (int, error) {
	if uplink.Kind != "bridge" {
		return uplink.MTU, nil
	}
	links, err := l.Host.ListLinks(ctx)
	if err != nil {
		return 0, err
	}
	least := 0
	for _, p := range links {
		if p.Master == uplink.Index && !strings.HasPrefix(p.Alias, "qnet:") && (least == 0 || p.MTU < least) {
			least = p.MTU
		}
	}
	return cmp.Or(least, uplink.MTU), nil
}
