package upkeep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/pinned"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// pinInterval is the least time between two looks at the routes.
	pinInterval = 100 * time.Millisecond
	// takenTimeout is how long addresses must be taken before the keeper notes it: a VPN that
	// starts makes several changes.
	takenTimeout = time.Second
	// pinRoundLimit is how often within fightTimeout pins are changed.
	pinRoundLimit = 30
)

// pins keeps running guests reachable when other programs' routes or policy rules
// take their addresses; see pinned.Pins.
type pins struct {
	base
	changed signal
	pace    pace
	fight   fight
	clean   bool   // no pin of ours is on the host, nor was needed at the last look at all routes
	by      string // what takes addresses, and since when
	since   time.Time
	told    string
}

func (p *pins) String() string { return "pins" }

// Run looks at the routes after each event, at once because packets are being lost,
// and at intervals.
func (p *pins) Run(ctx context.Context) error {
	tick := time.NewTicker(patrolInterval)
	defer tick.Stop()
	again := time.NewTimer(patrolInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-again.C:
		case <-p.changed:
		}
		cost := measure(func() {
			if err := p.look(ctx); err != nil && ctx.Err() == nil {
				p.Log.Warn("keep guests reachable", "error", err)
			}
		})
		if p.by != p.told {
			again.Reset(takenTimeout)
		}
		wait(ctx, max(pinInterval, p.pace.after(cost)))
	}
}

// look looks at the routes, and changes pins where that is due.
func (p *pins) look(ctx context.Context) error {
	n, err := p.guests(ctx)
	if err != nil || n.Bridge == 0 {
		return err
	}
	if p.clean && direct(n) {
		p.tellTaken(nil, nil)
		return nil
	}
	all, err := fib.Read(n.Prefix)
	if err != nil {
		return err
	}
	need, takers, lost := n.Needed(all)
	has, idle := n.Present(all)
	p.clean = len(has.Guests)+len(has.Rules)+len(need.Guests)+len(need.Rules) == 0
	p.tellTaken(takers, lost)
	if slices.Equal(need.Guests, has.Guests) && slices.Equal(need.Rules, has.Rules) && len(idle) == 0 || p.fight.next() > pinRoundLimit {
		return nil
	}
	return p.Network.WhileRunning(ctx, func() error { return p.repin(ctx, need, has, idle) })
}

// direct reports whether the kernel itself routes to all guests by the bridge: then the routes
// need not be read. Rules for some users or protocols alone may hide what takes addresses.
func direct(n pinned.Network) bool {
	all, err := fib.Read(netip.Prefix{})
	if err != nil || slices.ContainsFunc(all.Rules, func(r fib.Rule) bool { return r.Narrow }) {
		return false
	}
	c, err := rtnl.Dial()
	if err != nil {
		return false
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return !slices.ContainsFunc(n.Guests, func(g netip.Addr) bool {
		r, err := c.RouteTo(n.Gateway, g)
		return err != nil || r.Link() != n.Bridge
	})
}

// guests are those whose addresses are known. Bridge is 0 while nothing is to be
// done: the bridge is gone, or VMs have not come back to this keeper yet.
func (p *pins) guests(ctx context.Context) (pinned.Network, error) {
	n := pinned.Network{Prefix: p.plan.Prefix, Gateway: p.plan.Gateway}
	for _, m := range p.Network.Members() {
		if m.Away {
			return n, nil
		}
		for _, port := range m.Ports {
			if port.Address.IsValid() {
				n.Guests = append(n.Guests, port.Address)
			}
		}
	}
	order.By(n.Guests, netip.Addr.Compare)
	bridge, ok, err := p.Host.Link(ctx, p.plan.Bridge)
	if ok && bridge.Up {
		n.Bridge = bridge.Index
	}
	return n, err
}

// repin is called within WhileRunning.
func (p *pins) repin(ctx context.Context, need, has pinned.Pins, idle []netip.Addr) error {
	want, there := need.Steps(p.plan.Bridge, p.plan.Prefix), has.Steps(p.plan.Bridge, p.plan.Prefix)
	p.Journal.Pins = append(slices.Clone(there), want...)
	if err := p.save(); err != nil {
		return err
	}
	var errs []error
	for _, s := range want {
		guest, ok := s.(step.PinGuest)
		if !slices.Contains(there, s) || ok && slices.Contains(idle, guest.Guest) {
			errs = append(errs, s.Do(ctx, p.kernel()))
		}
	}
	errs = append(errs, apply.Undo(ctx, p.kernel(), slices.DeleteFunc(there, func(s step.Step) bool { return slices.Contains(want, s) })))
	err := errors.Join(errs...)
	if err == nil {
		p.Journal.Pins = want
		err = p.save()
	}
	return err
}

// tellTaken tells what takes addresses, and later that nothing does, once it has been
// so for takenTimeout.
func (p *pins) tellTaken(takers []pinned.Diversion, lost []netip.Addr) {
	var words []string
	for _, t := range takers {
		words = append(words, t.Describe(linkName(t.Route.Link)))
	}
	for _, a := range lost {
		words = append(words, fmt.Sprintf("the host's own %s (in vain: nothing can be put before it)", a))
	}
	by := strings.Join(words, ", ")
	if by != p.by {
		p.by, p.since = by, time.Now()
	}
	if by == p.told || time.Since(p.since) < takenTimeout {
		return
	}
	p.told = by
	if by == "" {
		p.Network.Note(p.about(fmt.Sprintf("nothing takes addresses of network %s any more: its VMs are routed as before", p.Place.Name), ""))
		return
	}
	p.Network.Note(p.about(fmt.Sprintf("addresses of network %s (%s) are taken by %s: this host still reaches its VMs, by host routes, and nobody else who has their addresses",
		p.Place.Name, p.plan.Prefix, by), p.wayOut()))
}

// wayOut says how the network gets another subnet.
func (p *pins) wayOut() string {
	if p.plan.Network.Subnet.IsValid() {
		return "choose another subnet in the profiles"
	}
	return "when its VMs have ended, it takes another subnet at its next start"
}

func linkName(index int) string {
	if l, err := net.InterfaceByIndex(index); err == nil {
		return l.Name
	}
	return fmt.Sprintf("#%d", index)
}
