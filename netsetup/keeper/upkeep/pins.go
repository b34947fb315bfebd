package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// pinPause is between two looks at the routes; where a look takes long, because
	// there are many, it is that many times longer.
	pinPause = 100 * time.Millisecond
	pinShare = 20
	// pinTell is how long a change lasts before it is told: a VPN that starts makes
	// several.
	pinTell = time.Second
	// maxPinnings is how often in the time of truce pins are changed.
	maxPinnings = 30
)

// pinner keeps running guests reachable when other programs' routes or policy
// rules take their addresses; see plan.Pins.
type pinner struct {
	quit    chan struct{}
	changed chan struct{}
	conn    *netlink.Conn // nil where it could not be opened
	fight   fight
	by      string // who takes addresses, and since when
	since   time.Time
	told    string
}

func (k *keeper) startPinning() *pinner {
	p := &pinner{quit: make(chan struct{}), changed: make(chan struct{}, 1)}
	conn, err := listenGroups(unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE})
	if err != nil {
		k.note(fmt.Sprintf("routes that take VMs' addresses are noticed late: %v", err))
	} else {
		p.conn = conn
		go hear(conn, p.changed)
	}
	go k.keepPinned(p)
	return p
}

func (p *pinner) stop() {
	close(p.quit)
	if p.conn != nil {
		p.conn.Close() //nolint:errcheck // nothing follows from it
	}
}

// look has the routes looked at, because the guests changed.
func (p *pinner) look() {
	if p != nil {
		poke(p.changed)
	}
}

func (k *keeper) keepPinned(p *pinner) {
	tick := time.NewTicker(patrol)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
		case <-p.changed: // at once: packets are being lost
		}
		begin := time.Now()
		if err := k.pin(p); err != nil {
			k.log.Warn("keep guests reachable", "error", err)
		}
		select {
		case <-p.quit:
			return
		case <-time.After(max(pinPause, pinShare*time.Since(begin))):
		}
	}
}

// pin looks at the routes, and changes pins where that is due.
func (k *keeper) pin(p *pinner) error {
	n, err := k.guests()
	if err != nil || n.Bridge == 0 {
		return err
	}
	fib, err := host.ReadFIB()
	if err != nil {
		return err
	}
	fib = fib.About(n.Prefix)
	need, takers, lost := n.Need(fib)
	has, idle := n.Has(fib)
	k.tellTaken(p, takers, lost)
	if slices.Equal(need.Guests, has.Guests) && slices.Equal(need.Rules, has.Rules) && len(idle) == 0 || p.tired() {
		return nil
	}
	return k.whileRunning(func() error { return k.repin(need, has, idle) })
}

// guests are those whose addresses are known. Bridge is 0 while nothing is to be
// done: the bridge is gone, or VMs have not come back to this keeper yet.
func (k *keeper) guests() (plan.Pinned, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	planned := k.journal.Plan
	n := plan.Pinned{Prefix: planned.Prefix, Gateway: planned.Gateway}
	for _, m := range k.vms {
		if m.away {
			return n, nil
		}
		for _, p := range m.ports {
			if p.Address.IsValid() {
				n.Guests = append(n.Guests, p.Address)
			}
		}
	}
	slices.SortFunc(n.Guests, netip.Addr.Compare)
	bridge, ok, err := k.host.Link(context.TODO(), planned.Bridge)
	if ok && bridge.Up {
		n.Bridge = bridge.Index
	}
	return n, err
}

// repin runs by whileRunning.
func (k *keeper) repin(need, has plan.Pins, idle []netip.Addr) error {
	plan := k.journal.Plan
	want, there := need.Steps(plan.Bridge, plan.Prefix), has.Steps(plan.Bridge, plan.Prefix)
	k.journal.Pins = append(slices.Clone(there), want...)
	if err := k.journal.Write(k.paths.journal()); err != nil {
		return err
	}
	var errs []error
	for _, s := range want {
		guest, ok := s.(step.PinGuest)
		if !slices.Contains(there, s) || ok && slices.Contains(idle, guest.Guest) {
			errs = append(errs, s.Do(context.TODO(), k.host.Kernel()))
		}
	}
	errs = append(errs, step.Undo(context.TODO(), k.host.Kernel(), slices.DeleteFunc(there, func(s step.Step) bool { return slices.Contains(want, s) })))
	err := errors.Join(errs...)
	if err == nil {
		k.journal.Pins = want
		err = k.journal.Write(k.paths.journal())
	}
	return err
}

// tired reports whether another program and we have changed the routes too often;
// after a while we go on.
func (p *pinner) tired() bool {
	if time.Since(p.fight.began) > truce {
		p.fight = fight{began: time.Now()}
	}
	p.fight.rounds++
	return p.fight.rounds > maxPinnings
}

// tellTaken tells who takes addresses, and that they do no longer, once it has
// been so for a while.
func (k *keeper) tellTaken(p *pinner, takers []plan.Taker, lost []netip.Addr) {
	var words []string
	for _, t := range takers {
		words = append(words, t.String(linkName(t.Route.Link)))
	}
	for _, a := range lost {
		words = append(words, fmt.Sprintf("the host's own %s (in vain: nothing can be put before it)", a))
	}
	by := strings.Join(words, ", ")
	if by != p.by {
		p.by, p.since = by, time.Now()
		time.AfterFunc(pinTell, p.look)
	}
	if by == p.told || time.Since(p.since) < pinTell {
		return
	}
	p.told = by
	if by == "" {
		k.note(fmt.Sprintf("nothing takes addresses of network %s any more: its VMs are routed as before", k.network))
		return
	}
	k.note(fmt.Sprintf("addresses of network %s (%s) are taken by %s: this host still reaches its VMs, by host routes, and nobody else who has their addresses; %s",
		k.network, k.journal.Plan.Prefix, by, k.wayOut()))
}

// wayOut says how the network gets another subnet.
func (k *keeper) wayOut() string {
	if k.journal.Plan.Network.Subnet.IsValid() {
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
