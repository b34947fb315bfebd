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

// settle does, behind the answer to a join, what is to be done for the VM's forwards besides their
// sockets: QEMU need not wait for it. The supervisor hears as news how each is done. Of a VM that
// comes back it finishes what the keeper before this one has begun. server.changes is held.
func (s *server) settle(ctx context.Context, req keeper.Request, m *member) {
	failpoint.Hit("keeper registered a VM") //nolint:errcheck // it is, whatever fails behind that
	s.mu.Lock()
	ports := slices.Clone(m.ports) // a watcher changes Seen
	s.mu.Unlock()
	if !slices.ContainsFunc(ports, func(p keeper.Port) bool { return len(p.Forwards) > 0 }) {
		return
	}
	s.restore(ctx, m.steps)
	var steps step.List
	for _, p := range ports {
		steps = append(steps, s.missing(p, p.Forwards, m.steps)...)
	}
	news := keeper.Reply{Settled: req.Op == keeper.OpJoin, Steps: s.translate(ctx, req.VM, m, steps)}
	var asked []keeper.Forward
	for _, p := range req.Ports {
		asked = append(asked, p.Forwards...)
	}
	notes := s.barriers(ctx, asked)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range m.ports {
		m.ports[i].Forwards = asDone(m.ports[i].Forwards, m.ports[i], m.steps)
	}
	if len(notes) > 0 {
		m.post(keeper.Reply{Told: notes})
	}
	news.Update = slices.Clone(m.ports)
	m.post(news)
}

// restore does again what steps for forwards have lost: the keeper that was to do them may have
// been killed before. What fails, the mender tells.
func (s *server) restore(ctx context.Context, steps step.List) {
	for _, a := range step.All[forward.AddForwards](steps) {
		if holds, err := a.Holds(ctx, s.host.Kernel()); err == nil && !holds {
			a.Do(ctx, s.host.Kernel()) //nolint:errcheck // see above
		}
	}
}

// missing are the steps for those forwards to a port that the steps do not have yet.
func (s *server) missing(port keeper.Port, forwards []keeper.Forwarded, steps step.List) step.List {
	done := destinations(steps)
	var list []keeper.Forward
	for _, f := range forwards {
		if !port.Address.Is4() || !slices.Contains(done, forward.Destination(port.Address, f.Forward)) {
			list = append(list, f.Forward)
		}
	}
	return s.journal.Plan.ForwardSteps(port.Address, list)
}

// translate does more steps for a VM's forwards, and returns their commands. Where they fail, the
// relay has all. server.changes is held.
func (s *server) translate(ctx context.Context, vm string, m *member, steps step.List) (commands []string) {
	if len(steps) == 0 {
		return nil
	}
	before := m.steps
	err := s.setSteps(vm, m, slices.Concat(before, steps))
	if err == nil {
		err = failpoint.Hit("keeper wrote the forwards to the journal")
	}
	if err == nil {
		err = apply.Do(ctx, s.host.Kernel(), steps, func(did step.Step) { commands = append(commands, did.String()) })
	}
	if err != nil {
		s.NoteOnce(s.about(fmt.Sprintf("VM %s sees the host in place of those who use its forwarded ports: %v", vm, err)))
		if err := s.setSteps(vm, m, before); err != nil {
			s.log.Warn("forward ports", "vm", vm, "error", err)
		}
		return nil
	}
	if err := s.forwardsChanged(ctx); err != nil {
		s.NoteOnce(s.about(fmt.Sprintf("other programs' rules may drop what is for forwarded ports: %v", err)))
	}
	return commands
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
