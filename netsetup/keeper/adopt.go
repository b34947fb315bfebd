package keeper

import (
	"fmt"
	"net"
	"os"

	"github.com/qnet-vm/qnet/netsetup"
)

// adopt takes over the network of a keeper that died while VMs of it live; it
// reports false where there is nothing to adopt. The plan lock is held. The VMs
// count as away until their supervisors rejoin.
func (k *keeper) adopt() (bool, error) {
	j, err := netsetup.ReadJournal(k.paths.journal())
	if err != nil {
		return false, nil //nolint:nilerr // there is none, or recoverNetwork treats it
	}
	if ok, err := inUse(k.host, j); !ok || err != nil {
		return false, err
	}
	if err := netsetup.Adopt(k.host, j.Plan); err != nil {
		return false, fmt.Errorf("adopt network %q: %w", k.network, err)
	}
	k.journal, k.joined = j, true
	for vm, steps := range j.Ports {
		k.vms[vm] = &member{steps: steps, away: true, quit: make(chan struct{})}
	}
	return true, nil
}

// inUse reports whether a VM still has a tap of a dead keeper's network open: its
// supervisor is about to start the next keeper.
func inUse(k netsetup.Kernel, j *netsetup.Journal) (bool, error) {
	if here, err := lives(j); !here || err != nil {
		return false, nil //nolint:nilerr // recoverNetwork words it
	}
	if stands, err := j.Plan.Stands(k); !stands || err != nil {
		return false, err
	}
	for _, steps := range j.Ports {
		for _, s := range steps {
			tap, ok := s.(netsetup.AddTap)
			if !ok {
				continue
			}
			l, there, err := k.Link(tap.Name)
			if err != nil {
				return false, err
			}
			if there && l.Alias == tap.Alias && l.Carrier {
				return true, nil
			}
		}
	}
	return false, nil
}

// rejoin registers a VM that got its ports from a keeper before this one.
func (k *keeper) rejoin(c *net.UnixConn, req request) (reply, []*os.File, error) {
	before := k.vms[req.VM]
	if before == nil || !before.away {
		return reply{}, nil, fmt.Errorf("rejoin network %q: VM %q is none of those that were on it: %w", k.network, req.VM, netsetup.ErrRefused)
	}
	m := newMember(c)
	m.steps, m.ports = before.steps, req.Held
	if err := k.reserveAgain(req.VM, m.ports); err != nil {
		return reply{}, nil, fmt.Errorf("rejoin network %q: %w", k.network, err)
	}
	k.vms[req.VM] = m
	info := k.infoLocked()
	return reply{Info: &info, Ports: m.ports, Notes: k.notes()}, nil, nil
}

// endAway ends the registration of VMs that did not come back.
func (k *keeper) endAway() {
	k.mu.Lock()
	var away []string
	for vm, m := range k.vms {
		if m.away {
			away = append(away, vm)
		}
	}
	k.mu.Unlock()
	for _, vm := range away {
		k.died(vm)
	}
}
