package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// patrol is how often is looked without an event: some sysctls tell nobody.
	patrol = 10 * time.Second
	// pause is between two looks: a host on which links come and go all the time,
	// as with many VMs starting, must not keep the keeper busy.
	pause = 500 * time.Millisecond
	// maxRounds is how often a step is done again before another program is let
	// have its way; fights are counted for the time of truce.
	maxRounds = 5
	truce     = time.Minute
	// maxReloads is the like for accepts in others' chains: a firewall that is
	// reloaded a few times in a row is no fight.
	maxReloads = 30
)

// fight counts how often another program undid one of our steps.
type fight struct {
	rounds int
	began  time.Time
}

// guardian puts right what other programs change of a network while VMs run.
type guardian struct {
	quit    chan struct{}
	changed chan struct{} // pokes a look at the host
	conns   []*netlink.Conn
	fights  map[string]*fight // by the step's command
	yielded map[string]bool   // steps given up
}

// startGuard watches links, addresses, sysctls of links, and nftables.
func (k *keeper) startGuard() *guardian {
	g := &guardian{
		quit: make(chan struct{}), changed: make(chan struct{}, 1), fights: map[string]*fight{}, yielded: map[string]bool{},
	}
	for _, groups := range []struct {
		family int
		ids    []uint32
	}{
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_NETCONF}},
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}},
	} {
		conn, err := listenGroups(groups.family, groups.ids)
		if err != nil {
			k.note(fmt.Sprintf("changes by other programs are noticed late: %v", err))
			continue
		}
		g.conns = append(g.conns, conn)
		go hear(conn, g.changed)
	}
	go g.pollSilent()
	go k.keepRight(g)
	return g
}

func listenGroups(family int, ids []uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to netlink: %w", err)
	}
	for _, id := range ids {
		if err := conn.JoinGroup(id); err != nil {
			return nil, errors.Join(fmt.Errorf("listen to netlink group %d: %w", id, err), conn.Close())
		}
	}
	return conn, nil
}

// hear pokes for whatever is told; what, a look at the host says better.
func hear(conn *netlink.Conn, changed chan<- struct{}) {
	for {
		_, err := conn.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: more events than fit
			return
		}
		poke(changed)
	}
}

func (g *guardian) stop() {
	close(g.quit)
	for _, c := range g.conns {
		c.Close() //nolint:errcheck // nothing follows from it
	}
}

func (k *keeper) keepRight(g *guardian) {
	tick := time.NewTicker(patrol)
	defer tick.Stop()
	for {
		select {
		case <-g.quit:
			return
		case <-tick.C:
		case <-g.changed:
			if !g.quiet() {
				return
			}
		}
		if err := k.whileRunning(func() error { return k.mend(g) }); err != nil {
			k.log.Warn("mend network", "error", err)
		}
		select {
		case <-g.quit:
			return
		case <-time.After(pause):
		}
	}
}

// quietTime is how long nothing must have changed before we do: a firewall that
// reads its settings again runs a row of commands, and one of ours among them may
// fail one of its. waitTime bounds the wait for that.
const (
	quietTime = 200 * time.Millisecond
	waitTime  = time.Second
)

// quiet waits until changes, which seldom come alone, are over; false if the
// guardian was stopped meanwhile.
func (g *guardian) quiet() bool {
	for end := time.After(waitTime); ; {
		select {
		case <-g.quit:
			return false
		case <-end:
			return true
		case <-time.After(quietTime):
			return true
		case <-g.changed:
		}
	}
}

// mend runs by whileRunning.
func (k *keeper) mend(g *guardian) error {
	seen, err := step.Look(context.TODO(), k.host.Kernel())
	if err != nil {
		return err
	}
	if k.lease != nil {
		k.tellFailed(g, k.lease.Follow())
	}
	accepts, err := k.refreshAccepts()
	k.tellFailed(g, err)
	// Before forwarding is turned on again that another program turned off.
	k.tellFailed(g, errors.Join(k.guardUplinks(), k.renewUplinks(seen)))
	mended, err := step.Mend(context.TODO(), seen, slices.Concat(k.liveSteps(g, seen), accepts), g.skips)
	if len(mended) == 0 && err == nil {
		return nil
	}
	k.tellMended(g, mended)
	for _, s := range mended {
		switch s.(type) {
		case step.AddBridge:
			err = errors.Join(err, k.restartServices())
		case step.AddTable:
			k.guarded = nil
			err = errors.Join(err, k.guardUplinks())
		}
	}
	k.tellFailed(g, err)
	return err
}

// liveSteps are those of the network and of the VMs on it whose taps are there. A
// tap goes with its QEMU, a moment before the supervisor leaves; one that is gone
// for longer was deleted, and cannot be made again, because its other end is QEMU's.
func (k *keeper) liveSteps(g *guardian, seen step.Seen) step.List {
	steps, _ := step.SplitOptional(slices.Concat(k.journal.Plan.Steps, k.journal.Added))
	var all step.List
	for _, m := range k.vms {
		all = append(all, m.steps...)
	}
	lost := step.Lost(context.TODO(), seen, all)
	for vm, m := range k.vms {
		if !m.has(lost) {
			m.lost = time.Time{}
			steps = append(steps, m.steps...)
			continue
		}
		k.tellLost(g, vm, m)
	}
	return steps
}

func (m *member) has(taps []string) bool {
	return slices.ContainsFunc(m.ports, func(p PortInfo) bool { return slices.Contains(taps, p.Tap) })
}

// lostTime is how long a tap may be gone before its VM is said to be cut off.
const lostTime = 3 * time.Second

func (k *keeper) tellLost(g *guardian, vm string, m *member) {
	switch {
	case m.lost.IsZero():
		m.lost = time.Now()
		time.AfterFunc(lostTime, func() { poke(g.changed) })
	case time.Since(m.lost) >= lostTime && !m.told:
		m.told = true
		k.note(fmt.Sprintf("another program deleted a tap of VM %s, which cannot be made again: restart the VM to connect it", vm))
	}
}

func (g *guardian) skips(s step.Step) bool { return g.yielded[s.String()] }

// tellMended says in one line what was put right, and gives up what was put right
// too often.
func (k *keeper) tellMended(g *guardian, mended []step.Step) {
	var words, accepts []string
	for _, s := range mended {
		command := s.String()
		first := strings.SplitN(command, "\n", 2)[0]
		if _, ok := s.(step.AddAccept); ok {
			accepts = append(accepts, first)
		} else {
			words = append(words, first)
		}
		if limit := roundsOf(s); g.round(command, limit) {
			k.note(fmt.Sprintf("another program keeps undoing %q: given up after %d rounds; find and stop it, then restart the VMs of network %s",
				first, limit, k.network))
		}
	}
	if len(accepts) > 0 {
		k.note(fmt.Sprintf("another program's rules drop packets of network %s; let pass: %s", k.network, strings.Join(accepts, "; ")))
	}
	if len(words) > 0 {
		k.note(fmt.Sprintf("another program changed network %s; done again: %s", k.network, strings.Join(words, "; ")))
	}
}

// round counts a fight's round and reports whether it was the last.
func (g *guardian) round(command string, limit int) bool {
	f := g.fights[command]
	if f == nil || time.Since(f.began) > truce {
		f = &fight{began: time.Now()}
		g.fights[command] = f
	}
	f.rounds++
	g.yielded[command] = f.rounds >= limit
	return g.yielded[command]
}

func roundsOf(s step.Step) int {
	if _, ok := s.(step.AddAccept); ok {
		return maxReloads
	}
	return maxRounds
}

// tellFailed tells of each failure once.
func (k *keeper) tellFailed(g *guardian, err error) {
	if err == nil || g.yielded[err.Error()] {
		return
	}
	g.yielded[err.Error()] = true
	k.note(fmt.Sprintf("another program changed network %s, which cannot be put right: %v", k.network, err))
}
