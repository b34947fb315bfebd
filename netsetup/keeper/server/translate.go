package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// translate has those forwards of a VM's port done by DNAT that can be, and returns how each is
// done. Where that fails, the relay does it. server.changes is held.
func (s *server) translate(ctx context.Context, vm string, m *member, port int, made []keeper.Forwarded) []keeper.Forwarded {
	var forwards []keeper.Forward
	for _, f := range made {
		forwards = append(forwards, f.Forward)
	}
	steps := s.journal.Plan.ForwardSteps(m.ports[port].Address, forwards)
	if len(steps) == 0 {
		return made
	}
	before := m.steps
	err := s.setSteps(vm, m, slices.Concat(before, steps))
	if err == nil {
		err = failpoint.Hit("keeper wrote the forwards to the journal")
	}
	if err == nil {
		err = apply.Do(ctx, s.host.Kernel(), steps, nil)
	}
	if err != nil {
		s.NoteOnce(s.about(fmt.Sprintf("VM %s sees the host in place of those who use its forwarded ports: %v", vm, err)))
		if err := s.setSteps(vm, m, before); err != nil {
			s.log.Warn("forward ports", "vm", vm, "error", err)
		}
		return made
	}
	if err := s.forwardsChanged(ctx); err != nil {
		s.NoteOnce(s.about(fmt.Sprintf("other programs' rules may drop what is for forwarded ports: %v", err)))
	}
	return asDone(made, m.ports[port], m.steps)
}

// asDone says of forwards of a port how the steps do them.
func asDone(list []keeper.Forwarded, port keeper.Port, steps step.List) []keeper.Forwarded {
	done := destinations(steps)
	list = slices.Clone(list)
	for i := range list {
		list[i].How = keeper.ByRelay
		if port.Address.Is4() && slices.Contains(done, forward.Destination(port.Address, list[i].Forward)) {
			list[i].How = keeper.ByDNAT
		}
	}
	return list
}

// destinations are all that the steps add.
func destinations(steps step.List) []nft.Destination {
	var list []nft.Destination
	for _, a := range step.All[forward.AddForwards](steps) {
		list = append(list, a.Forwards...)
	}
	return list
}

// setSteps makes these the steps of a VM, and writes them to the journal. server.changes is held.
func (s *server) setSteps(vm string, m *member, steps step.List) error {
	s.mu.Lock()
	m.steps = steps
	s.mu.Unlock()
	s.journal.Ports[vm] = steps
	s.journal.Plan.Forwards = s.forwards()
	return s.journal.Write(s.place.Journal())
}

// forwards are all destinations of the network, of all VMs.
func (s *server) forwards() []nft.Destination {
	var list []nft.Destination
	for _, steps := range s.journal.Ports {
		list = append(list, destinations(steps)...)
	}
	return list
}

// forwardsChanged has the accepts in other programs' chains follow the forwards. server.changes is
// held.
func (s *server) forwardsChanged(ctx context.Context) error {
	s.journal.Plan.Forwards = s.forwards()
	if s.upkeep == nil {
		return nil
	}
	return s.upkeep.ForwardsChanged(ctx)
}

// keepOnly undoes the steps for forwards that the VM's ports no longer have. server.changes is
// held.
func (s *server) keepOnly(ctx context.Context, vm string, m *member) error {
	var wanted []nft.Destination
	for _, p := range m.ports {
		for _, f := range p.Forwards {
			if p.Address.Is4() {
				wanted = append(wanted, forward.Destination(p.Address, f.Forward))
			}
		}
	}
	left, gone := divide(m.steps, wanted)
	if len(gone) == 0 {
		return nil
	}
	if err := apply.Undo(ctx, s.host.Kernel(), gone); err != nil {
		return err
	}
	return errors.Join(s.setSteps(vm, m, left), s.forwardsChanged(ctx))
}

// divide parts the steps of a VM into those that the wanted destinations need, and the undo of the
// others.
func divide(steps step.List, wanted []nft.Destination) (left, gone step.List) {
	isWanted := func(d nft.Destination) bool { return slices.Contains(wanted, d) }
	for _, s := range steps {
		a, adds := s.(forward.AddForwards)
		if !adds {
			left = append(left, s)
			continue
		}
		keep, drop := a, a
		keep.Forwards = slices.DeleteFunc(slices.Clone(a.Forwards), func(d nft.Destination) bool { return !isWanted(d) })
		drop.Forwards = slices.DeleteFunc(slices.Clone(a.Forwards), isWanted)
		if len(keep.Forwards) > 0 {
			left = append(left, keep)
		}
		if len(drop.Forwards) > 0 {
			gone = append(gone, drop)
		}
	}
	return left, gone
}
