package server

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// claim is an IPv6 address that a guest asks about before it uses it, or tries to use.
type claim struct {
	vm, tap string
	address netip.Addr
}

const (
	// maxClaims bounds the claims that wait for the learner. Further ones are lost; a guest asks
	// about another address then, or again.
	maxClaims = 64
	// claimsBurst and claimEvery bound what a guest can make the keeper do: as many claims at
	// once, and another one each such time.
	claimsBurst = 2 * guard.MostLearned
	claimEvery  = 250 * time.Millisecond
	// claimAgain is after what time a claim is heard again that came to nothing.
	claimAgain = 10 * time.Second
)

// claimer returns what a watcher calls with the claims of a port, and what does not wait.
// server.changes is held.
func (s *server) claimer(vm, tap string) func(netip.Addr) {
	p := s.learner()
	left, last := claimsBurst, time.Now()
	heard := map[netip.Addr]time.Time{}
	return func(a netip.Addr) {
		if !p.MayLearn(a) || time.Since(heard[a]) < claimAgain {
			return
		}
		if n := int(time.Since(last) / claimEvery); n > 0 {
			left, last = min(left+n, claimsBurst), time.Now()
		}
		if left == 0 {
			return
		}
		left--
		if len(heard) >= claimsBurst {
			clear(heard)
		}
		heard[a] = time.Now()
		select {
		case s.claims <- claim{vm, tap, a}:
		default:
		}
	}
}

// learner is what the guards of all ports have in common. server.changes is held.
func (s *server) learner() guard.Port {
	return guard.Port{Prefix6: s.journal.Plan.Prefix6, Router: s.journal.Plan.Router6()}
}

// learn lets guests use the addresses that they asked about, until ctx ends.
func (s *server) learn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.claims:
			if err := s.learnOne(ctx, c); err != nil && ctx.Err() == nil {
				s.log.Warn("let a guest use an address", "vm", c.vm, "address", c.address, "error", err)
			}
		}
	}
}

// learnOne puts the address into the set of the port's guard, unless qnet or a MAC gives it, or
// another port has it. The oldest one goes where the set is full.
func (s *server) learnOne(ctx context.Context, c claim) error {
	if err := s.changes.lock(ctx); err != nil {
		return err
	}
	defer s.changes.unlock()
	if s.over {
		return nil
	}
	for _, m := range s.Members() {
		for _, t := range guardsOf(m.Steps) {
			if slices.Contains(t.own(), c.address) {
				return nil
			}
		}
	}
	s.mu.Lock()
	m := s.vms[c.vm]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	for _, t := range guardsOf(m.steps) {
		if t.Table.Name == guard.TableName(c.tap) {
			return s.addOwn(m, t, c.address)
		}
	}
	return nil
}

// guarded is a step of a VM that adds a guard's table with a set of addresses.
type guarded struct {
	step.AddTable
	at int // its place among the VM's steps
}

// guardsOf finds the guards of a network with IPv6 among the steps.
func guardsOf(steps step.List) []guarded {
	var list []guarded
	for i, s := range steps {
		if t, ok := s.(step.AddTable); ok && t.Table.Family == nft.NetDev && len(t.Table.Sets) == 1 && t.Table.Sets[0].Name == guard.OwnSet {
			list = append(list, guarded{t, i})
		}
	}
	return list
}

// own are the addresses in the guard's set.
func (t guarded) own() []netip.Addr { return t.Table.Sets[0].Addresses }

// addOwn adds an address to the set of a guard, and to the step, so that a table that is added
// again has it. server.changes is held.
func (s *server) addOwn(m *member, t guarded, a netip.Addr) error {
	p := s.learner()
	list := slices.Clone(t.own())
	var gone []netip.Addr
	learned := slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return !p.MayLearn(a) })
	if len(learned) >= guard.MostLearned {
		gone = learned[:1]
		list = slices.DeleteFunc(list, func(a netip.Addr) bool { return a == gone[0] })
	}
	if err := s.kernel.SetAddresses(t.Table, guard.OwnSet, []netip.Addr{a}, gone); err != nil {
		return err
	}
	s.setOwn(m.steps, t, append(list, a))
	return nil
}

// setOwn gives the step the addresses that the guard's set has. server.changes is held.
func (s *server) setOwn(steps step.List, t guarded, list []netip.Addr) {
	t.Table.Sets = slices.Clone(t.Table.Sets)
	t.Table.Sets[0].Addresses = list
	s.mu.Lock()
	defer s.mu.Unlock()
	steps[t.at] = t.AddTable
}

// recall gives the steps of a VM the addresses that a dead keeper let its guest use.
// server.changes is held.
func (s *server) recall(steps step.List) {
	for _, t := range guardsOf(steps) {
		list, err := s.kernel.Addresses(t.Table, guard.OwnSet)
		if err != nil || len(list) == 0 {
			continue // the table is gone: the mender adds it
		}
		s.setOwn(steps, t, list)
	}
}
