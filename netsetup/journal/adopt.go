package journal

import (
	"errors"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Adopt takes over a network that a dead keeper left, for VMs that live: its
// tables become this Kernel's; the rest is as it was.
func Adopt(k step.Kernel, p plan.Plan) error {
	for _, s := range p.Steps {
		if table, ok := s.(step.AddTable); ok {
			if err := k.AdoptTable(table.Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stands reports whether the plan's bridge is there and bears its mark, or with
// macvtap whether the uplink is there.
func Stands(k step.Kernel, p plan.Plan) (bool, error) {
	if p.Network.Macvtap {
		_, ok, err := k.Link(p.Network.Uplink)
		return ok, err
	}
	l, ok, err := k.Link(p.Bridge)
	if err != nil || !ok {
		return false, err
	}
	for _, s := range p.Steps {
		if b, ours := s.(step.AddBridge); ours {
			return l.Alias == b.Alias, nil
		}
	}
	return true, nil // a bridge we only joined
}

// FollowMTU gives a network in mode bridge the MTU that its uplink has by now, and
// notes it in the plan for what is made later. The other modes keep the MTU they were
// made with: a profile's choice, or what guests were told by DHCP.
//
//	ip link set BRIDGE mtu MTU
//	ip link set TAP mtu MTU
func FollowMTU(k step.Kernel, j *Journal, mtu int) error {
	j.Plan.MTU = mtu
	var links []string
	for i, s := range j.Plan.Steps {
		if b, ok := s.(step.AddBridge); ok {
			b.MTU = mtu
			j.Plan.Steps[i] = b
			links = append(links, b.Name)
		}
	}
	for _, steps := range j.Ports {
		for _, s := range steps {
			if tap, ok := step.TapOf(s); ok {
				links = append(links, tap)
			}
		}
	}
	var errs []error
	for _, name := range links {
		l, ok, err := k.Link(name)
		if err == nil && ok && l.MTU != mtu {
			err = k.SetMTU(name, mtu)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Yields reports whether the network's routes were raised, and not yet restored.
func (j *Journal) Yields() bool {
	return slices.ContainsFunc(j.Added, func(s step.Step) bool {
		_, ok := s.(step.RaiseMetrics)
		return ok
	})
}

// Restore undoes what Yields tells of. The journal is to be written after it.
func (j *Journal) Restore(k step.Kernel) error {
	var errs []error
	j.Added = slices.DeleteFunc(j.Added, func(s step.Step) bool {
		raised, ok := s.(step.RaiseMetrics)
		if !ok {
			return false
		}
		err := raised.Undo(k)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}
