package keeper

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

const (
	// offerTime is how long a guest's DISCOVER may be without an OFFER before the LAN
	// is asked whether it takes the guest's frames at all.
	offerTime = 5 * time.Second
	// tries is how often both are asked for, so that one lost frame is no alarm.
	tries = 3
	// arpTime and dhcpTime are how long an answer is waited for. DHCP servers try an
	// address for some seconds before they offer it.
	arpTime, dhcpTime = time.Second, 5 * time.Second
	// mostPause bounds the time between two looks that told nothing.
	mostPause = 5 * time.Minute
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
// after how long to look again, 0 if not before something happens.
func (l *lan) askForGuests(uplink host.Link) (again time.Duration) {
	if !uplink.Carrier {
		return 0
	}
	type guest struct {
		vm   string
		port PortInfo
	}
	l.k.mu.Lock()
	var guests []guest
	for vm, m := range l.k.vms {
		for _, p := range m.ports {
			if p.Seen.Has(guestwatch.Frame) {
				guests = append(guests, guest{vm, p})
			}
		}
	}
	l.k.mu.Unlock()
	for _, g := range guests {
		a := l.asked[g.port.Tap]
		if a == nil {
			a = &asking{due: time.Now().Add(offerTime), pause: offerTime, anew: l.checked}
			l.asked[g.port.Tap] = a
		}
		if g.port.Seen.Has(guestwatch.Offer) && !a.anew {
			a.over.Store(true)
		}
		if a.over.Load() {
			continue
		}
		if left := time.Until(a.due); left > 0 {
			again = max(again, left)
			continue
		}
		if a.busy.Swap(true) {
			continue
		}
		a.pause = min(2*a.pause, mostPause)
		a.due = time.Now().Add(a.pause)
		go func() {
			defer a.busy.Store(false)
			l.askFor(g.vm, g.port, uplink, a)
		}()
	}
	return again
}

// askFor asks in the guest's name and in the host's. Where the host is answered and
// the guest is not, the LAN drops the guest's frames (F26).
func (l *lan) askFor(vm string, port PortInfo, uplink host.Link, a *asking) {
	tap, there, err := l.k.host.Link(context.TODO(), port.Tap)
	if !there || err != nil {
		return
	}
	by := neigh.On(uplink.Index)
	if uplink.Kind == "bridge" { // it hands what is for the guest to the tap alone
		by.Listen = tap.Index
	}
	asked := l.question()
	for range tries {
		if !asked(neigh.On(uplink.Index), uplink.MAC) {
			return // nobody is answered: later again
		}
		if asked(by, port.MAC) {
			a.over.Store(true)
			return
		}
	}
	a.over.Store(true)
	l.k.note(fmt.Sprintf("the LAN answers this host, but not VM %s (MAC %s): the switch drops frames from new MACs (port security), or the provider does; "+
		`use mode = "nat", or have the MAC allowed; macvtap does not help`, vm, port.MAC))
}

// question asks for a gateway of the host's, an IPv4 one if there is any; without
// any, for a lease, of which nothing is taken.
func (l *lan) question() func(neigh.Link, net.HardwareAddr) bool {
	host, ok, err := l.k.host.Link(context.TODO(), l.k.hostLink())
	var gateways []netip.Addr
	if err == nil && ok {
		gateways, err = l.k.host.Gateways(host.Index)
	}
	if err != nil || len(gateways) == 0 {
		return func(by neigh.Link, mac net.HardwareAddr) bool {
			ctx, cancel := context.WithTimeout(context.Background(), dhcpTime)
			defer cancel()
			offers, err := neigh.Offers(ctx, by, mac)
			return err == nil && offers
		}
	}
	return func(by neigh.Link, mac net.HardwareAddr) bool {
		ctx, cancel := context.WithTimeout(context.Background(), arpTime)
		defer cancel()
		answer, err := neigh.Ask(ctx, by, neigh.Place{MAC: mac}, gateways[0])
		return err == nil && answer != nil
	}
}
