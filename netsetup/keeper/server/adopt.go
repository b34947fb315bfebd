package keeper

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// adopt takes over the network of a keeper that died while VMs of it live; it
// reports false where there is nothing to adopt. The plan lock is held. The VMs
// count as away until their supervisors rejoin.
func (k *keeper) adopt() (bool, error) {
	j, err := journal.Read(k.paths.journal())
	if err != nil {
		return false, nil //nolint:nilerr // there is none, or recoverNetwork treats it
	}
	if ok, err := inUse(k.host.Kernel(), j, k.runDir, ""); !ok || err != nil {
		return false, err
	}
	if err := k.guardHost(j.Plan); err != nil {
		return false, err
	}
	if err := step.Adopt(context.TODO(), k.host.Kernel(), j.Plan.Steps); err != nil {
		return false, fmt.Errorf("adopt network %q: %w", k.network, err)
	}
	k.journal, k.joined = j, true
	for vm, steps := range j.Ports {
		k.vms[vm] = &member{steps: steps, away: true, quit: make(chan struct{})}
	}
	return true, nil
}

// inUse reports whether a VM, other than one that is leaving, still has a tap of a dead keeper's network open: its
// supervisor is about to start the next keeper. A macvtap link does not tell
// whether it is open, but the supervisor's lock does.
func inUse(k step.Kernel, j *journal.Journal, runDir, leaving string) (bool, error) {
	if here, err := lives(j); !here || err != nil {
		return false, nil //nolint:nilerr // recoverNetwork words it
	}
	if stands, err := journal.Stands(context.TODO(), k, j.Plan); !stands || err != nil {
		return false, err
	}
	for vm, steps := range j.Ports {
		for _, s := range steps {
			open, err := isOpen(k, s, rundir.VM{RunDir: runDir, Name: vm}, vm == leaving)
			if open || err != nil {
				return open, err
			}
		}
	}
	return false, nil
}

func isOpen(k step.Kernel, s step.Step, vm rundir.VM, leaving bool) (bool, error) {
	port, ok := s.(step.Port)
	if !ok {
		return false, nil
	}
	open, told, err := port.Open(context.TODO(), k)
	if !open || told || err != nil {
		return open, err
	}
	if leaving {
		return false, nil
	}
	return vm.Lives()
}

// rejoin registers a VM that got its ports from a keeper before this one.
func (k *keeper) rejoin(c *net.UnixConn, req request) (reply, []*os.File, error) {
	before := k.vms[req.VM]
	if before == nil || !before.away {
		return reply{}, nil, fmt.Errorf("rejoin network %q: VM %q is none of those that were on it: %w", k.network, req.VM, host.ErrRefused)
	}
	m := newMember(c)
	m.steps, m.ports = before.steps, req.Held
	if err := k.reserveAgain(req.VM, m.ports); err != nil {
		return reply{}, nil, fmt.Errorf("rejoin network %q: %w", k.network, err)
	}
	k.vms[req.VM] = m
	info := k.briefLocked()
	return reply{Info: &info, Ports: m.ports, Notes: k.notes()}, nil, nil
}

// endAway ends the registration of VMs that cannot come back, because they have no
// port open any more, or late, did not.
func (k *keeper) endAway(late bool) {
	k.mu.Lock()
	var away []string
	for vm, m := range k.vms {
		if m.away && (late || !k.holdsPort(vm, m)) {
			away = append(away, vm)
		}
	}
	k.mu.Unlock()
	for _, vm := range away {
		k.died(vm)
	}
}

func (k *keeper) holdsPort(vm string, m *member) bool {
	return slices.ContainsFunc(m.steps, func(s step.Step) bool {
		open, err := isOpen(k.host.Kernel(), s, rundir.VM{RunDir: k.runDir, Name: vm}, false)
		return open || err != nil
	})
}
