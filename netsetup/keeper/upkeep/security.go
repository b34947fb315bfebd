package upkeep

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/hostlease"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

const (
	// offerTimeout is how long a guest's DISCOVER may be without an OFFER before the
	// host asks the LAN whether it takes the guest's frames at all.
	offerTimeout = 5 * time.Second
	// askLimit is how often both are asked for, so that one lost frame is no alarm.
	askLimit = 3
	// arpTimeout and dhcpTimeout bound the wait for an answer. DHCP servers try an
	// address for some seconds before they offer it.
	arpTimeout, dhcpTimeout = time.Second, 5 * time.Second
	// maxAskInterval bounds the time between two looks that told nothing.
	maxAskInterval = 5 * time.Minute
)

// asking is how far it is known whether the LAN takes frames of a guest's MAC.
type asking struct {
	due   time.Time
	pause time.Duration // before the next look
	anew  bool          // the switch may be another than the one that answered
	over  atomic.Bool
	busy  atomic.Bool
}

// askForGuests looks for guests that the LAN leaves without an answer. It returns
// after how long to look again, 0 for at the next event.
func (l *lan) askForGuests(ctx context.Context, uplink host.Link) (again time.Duration) {
	if !uplink.Carrier {
		return 0
	}
	for _, m := range l.Network.Members() {
		for _, p := range m.Ports {
			if p.Seen.Has(guestwatch.Frame) {
				again = max(again, l.askForGuest(ctx, m.VM, p, uplink))
			}
		}
	}
	return again
}

// askForGuest asks the LAN in the background if that is due, and returns the time
// until it is.
func (l *lan) askForGuest(ctx context.Context, vm string, port keeper.Port, uplink host.Link) time.Duration {
	a := l.asked[port.Tap]
	if a == nil {
		a = &asking{due: time.Now().Add(offerTimeout), pause: offerTimeout, anew: l.checked}
		l.asked[port.Tap] = a
	}
	if port.Seen.Has(guestwatch.Offer) && !a.anew {
		a.over.Store(true)
	}
	if a.over.Load() {
		return 0
	}
	if left := time.Until(a.due); left > 0 {
		return left
	}
	if a.busy.Swap(true) {
		return 0
	}
	a.pause = min(2*a.pause, maxAskInterval)
	a.due = time.Now().Add(a.pause)
	l.workers.Go(func() {
		defer a.busy.Store(false)
		l.askFor(ctx, vm, port, uplink, a)
	})
	return 0
}

// askFor asks in the guest's name and in the host's. Where the LAN answers the host
// and not the guest, it drops the guest's frames (F26).
func (l *lan) askFor(ctx context.Context, vm string, port keeper.Port, uplink host.Link, a *asking) {
	tap, there, err := l.Host.Link(ctx, port.Tap)
	if !there || err != nil {
		return
	}
	by := neigh.On(uplink.Index)
	if uplink.Kind == "bridge" { // it hands what is for the guest to the tap alone
		by.Listen = tap.Index
	}
	asked := l.question(ctx)
	for range askLimit {
		if !asked(ctx, neigh.On(uplink.Index), uplink.MAC) {
			return // nothing answers the host: later again
		}
		if asked(ctx, by, port.MAC) {
			a.over.Store(true)
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	a.over.Store(true)
	l.Network.Note(keeper.Note{
		Subject: "VM " + vm,
		Text: fmt.Sprintf("the LAN answers this host, but not VM %s (MAC %s): the switch drops frames from new MACs (port security), or the provider does",
			vm, port.MAC),
		Remedy: `use mode = "nat", or have the MAC allowed; macvtap does not help`,
	})
}

// question asks for a gateway of the host's, an IPv4 one if there is any; without
// any, for a DHCP offer, which it does not take.
func (l *lan) question(ctx context.Context) func(context.Context, neigh.Link, net.HardwareAddr) bool {
	own, ok, err := l.Host.Link(ctx, l.hostLink())
	var gateways []netip.Addr
	if err == nil && ok {
		gateways, err = host.ReadGateways(own.Index)
	}
	if err != nil || len(gateways) == 0 {
		return func(ctx context.Context, by neigh.Link, mac net.HardwareAddr) bool {
			ctx, cancel := context.WithTimeout(ctx, dhcpTimeout)
			defer cancel()
			offers, err := hostlease.Offers(ctx, by, mac)
			return err == nil && offers
		}
	}
	return func(ctx context.Context, by neigh.Link, mac net.HardwareAddr) bool {
		ctx, cancel := context.WithTimeout(ctx, arpTimeout)
		defer cancel()
		answer, err := neigh.Resolve(ctx, by, neigh.Place{MAC: mac}, gateways[0])
		return err == nil && answer != nil
	}
}
