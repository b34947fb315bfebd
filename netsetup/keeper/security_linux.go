package keeper

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/netsetup"
	"github.com/qnet-vm/qnet/netsetup/neigh"
	"github.com/qnet-vm/qnet/netsetup/watch"
)

const (
	// offerTime is how long a guest's DISCOVER may be without an OFFER before the LAN
	// is asked whether it takes the guest's frames at all.
	offerTime = 5 * time.Second
	// tries is how often both are asked for, so that one lost frame is no alarm.
	tries   = 3
	tryTime = 2 * time.Second
)

// asking is how far it is known whether the LAN takes frames of a guest's MAC.
type asking struct {
	first time.Time // when the guest had sent something
	anew  bool      // the switch may be another than the one that answered
	over  atomic.Bool
	busy  atomic.Bool
}

// askForGuests looks for guests that the LAN leaves without an answer. It returns
// after how long to look again, 0 if not before something happens.
func (l *lan) askForGuests(uplink netsetup.Link) (again time.Duration) {
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
			if p.Seen.Has(watch.Frame) {
				guests = append(guests, guest{vm, p})
			}
		}
	}
	l.k.mu.Unlock()
	for _, g := range guests {
		a := l.asked[g.port.Tap]
		if a == nil {
			a = &asking{first: time.Now(), anew: l.checked}
			l.asked[g.port.Tap] = a
		}
		if g.port.Seen.Has(watch.Offer) && !a.anew {
			a.over.Store(true)
		}
		if a.over.Load() {
			continue
		}
		if left := offerTime - time.Since(a.first); left > 0 {
			again = max(again, left)
			continue
		}
		if a.busy.Swap(true) {
			continue
		}
		go func() {
			defer a.busy.Store(false)
			l.askFor(g.vm, g.port, uplink, a)
		}()
	}
	return again
}

// askFor asks for the gateway in the guest's name and in the host's. Where the
// host is answered and the guest is not, the LAN drops the guest's frames (F26).
func (l *lan) askFor(vm string, port PortInfo, uplink netsetup.Link, a *asking) {
	target, ok := l.target()
	tap, there, err := l.k.host.Link(port.Tap)
	if !ok || !there || err != nil {
		return
	}
	by := neigh.On(uplink.Index)
	if uplink.Kind == "bridge" { // it hands what is for the guest to the tap alone
		by.Listen = tap.Index
	}
	for range tries {
		host := asked(neigh.On(uplink.Index), neigh.Place{MAC: uplink.MAC}, target)
		if !host {
			return // nobody is answered: later again
		}
		if asked(by, neigh.Place{MAC: port.MAC}, target) {
			a.over.Store(true)
			return
		}
	}
	a.over.Store(true)
	l.k.note(fmt.Sprintf("the LAN answers this host, but not VM %s (MAC %s): the switch drops frames from new MACs (port security), or the provider does; "+
		`use mode = "nat", or have the MAC allowed; macvtap does not help`, vm, port.MAC))
}

// target is whom to ask for: a gateway, an IPv4 one if there is any.
func (l *lan) target() (netip.Addr, bool) {
	host, ok, err := l.k.host.Link(l.k.hostLink())
	if err != nil || !ok {
		return netip.Addr{}, false
	}
	list, err := l.k.host.Gateways(host.Index)
	if err != nil || len(list) == 0 {
		return netip.Addr{}, false
	}
	return list[0], true
}

func asked(l neigh.Link, from neigh.Place, target netip.Addr) bool {
	ctx, cancel := context.WithTimeout(context.Background(), tryTime)
	defer cancel()
	mac, err := neigh.Ask(ctx, l, from, target)
	return err == nil && mac != nil
}
