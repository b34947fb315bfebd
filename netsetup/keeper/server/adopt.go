package server

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// adopt takes over the network of a keeper that died while VMs of it live. It reports
// false where there is nothing to adopt. The plan lock is held. The VMs count as away
// until their supervisors rejoin.
func (s *server) adopt(ctx context.Context) (bool, error) {
	j, err := journal.Read(s.place.Journal())
	if err != nil {
		return false, nil // there is none, or keeper.Recover treats it
	}
	if _, err := journal.RestoreNames(ctx, s.host.Kernel(), s.place.Name); err != nil {
		return false, err
	}
	if ok, err := keeper.InUse(ctx, s.host.Kernel(), j, s.place.RunDir, ""); !ok || err != nil {
		return false, err
	}
	links, err := s.host.Kernel().ListLinks(ctx)
	if err != nil {
		return false, err
	}
	j.Follow(links)
	j.Identify(links) // an older qnet did not
	if err := s.startWatchdog(j.Plan); err != nil {
		return false, err
	}
	if err := apply.Adopt(ctx, s.host.Kernel(), j.Plan.Steps); err != nil {
		return false, fmt.Errorf("adopt network %q: %w", s.place.Name, err)
	}
	s.journal, s.joined, s.planNotes = j, true, j.Plan.Notes
	for _, steps := range j.Ports {
		s.recall(steps)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for vm, steps := range j.Ports {
		s.vms[vm] = &member{steps: steps, away: true, cancel: func() {}}
	}
	return true, nil
}

// rejoin registers a VM that got its ports from a keeper before this one.
func (c *connection) rejoin(ctx context.Context, req keeper.Request) (keeper.Reply, []*os.File, error) {
	before := c.vms[req.VM]
	if before == nil || !before.away {
		return keeper.Reply{}, nil, host.Refuse("rejoin network %q: VM %q is none of those that were on it", c.place.Name, req.VM)
	}
	for i, p := range req.Held {
		if !slices.ContainsFunc(before.steps, func(s step.Step) bool { return makes(s, p.Tap) }) {
			return keeper.Reply{}, nil, host.Refuse("rejoin network %q: VM %q had no NIC %d on it", c.place.Name, req.VM, p.NIC)
		}
		if err := c.fits(req.VM, p, req.Held[:i]); err != nil {
			return keeper.Reply{}, nil, err
		}
	}
	m := newMember(c.conn.UnixConn, req.Versions)
	m.steps, m.ports = before.steps, req.Held
	if err := c.reserveAgain(req.VM, m.ports); err != nil {
		return keeper.Reply{}, nil, fmt.Errorf("rejoin network %q: %w", c.place.Name, err)
	}
	if err := c.keepOnly(ctx, req.VM, m); err != nil { // a forward that the dead keeper was adding, or removing
		return keeper.Reply{}, nil, fmt.Errorf("rejoin network %q: %w", c.place.Name, err)
	}
	for i := range m.ports {
		m.ports[i].Forwards = asDone(m.ports[i].Forwards, m.ports[i], m.steps)
	}
	return c.put(req.VM, m), nil, nil
}

// makes reports whether the step makes the port of that name.
func makes(s step.Step, port string) bool {
	name, ok := step.PortOf(s)
	return ok && name == port
}

// endAway ends the registration of VMs that cannot come back, because they have no
// port open any more. If late is set, it ends that of all VMs that have not come back.
func (s *server) endAway(ctx context.Context, late bool) {
	for _, m := range s.Members() {
		if !m.Away || !late && s.holdsPort(ctx, m.VM, m.Steps) {
			continue
		}
		last, err := s.remove(ctx, m.VM)
		if err != nil {
			s.log.Warn("undo ports", "vm", m.VM, "error", err)
		}
		if last {
			s.stop()
		}
		s.removeFiles(m.VM)
	}
}

func (s *server) holdsPort(ctx context.Context, vm string, steps step.List) bool {
	return slices.ContainsFunc(steps, func(made step.Step) bool {
		open, err := keeper.PortOpen(ctx, s.host.Kernel(), made, rundir.VM{RunDir: s.place.RunDir, Name: vm}, false)
		return open || err != nil
	})
}
