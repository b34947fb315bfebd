package journal

import (
	"context"
	"errors"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Stands reports whether the plan's bridge is there and bears its mark, or with
// macvtap whether the uplink is there.
func Stands(ctx context.Context, k step.Kernel, p plan.Plan) (bool, error) {
	if p.Network.Macvtap {
		_, ok, err := k.Link(ctx, p.Network.Uplink)
		return ok, err
	}
	l, ok, err := k.Link(ctx, p.Bridge)
	if err != nil || !ok {
		return false, err
	}
	if ours, ok := step.Find[step.AddBridge](p.Steps); ok {
		return l.Alias == ours.Alias, nil
	}
	return true, nil // a bridge we only joined
}

// FollowMTU gives a network in mode bridge the MTU that its uplink has by now, and
// notes it in the plan for ports made later. The other modes keep the MTU they were
// made with: a profile's choice, or the one DHCP gave the guests.
//
//	ip link set BRIDGE mtu MTU
//	ip link set TAP mtu MTU
func FollowMTU(ctx context.Context, k step.Kernel, j *Journal, mtu int) error {
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
			if port, ok := step.PortOf(s); ok {
				links = append(links, port)
			}
		}
	}
	var errs []error
	for _, name := range links {
		l, ok, err := k.Link(ctx, name)
		if err == nil && ok && l.MTU != mtu {
			err = k.SetMTU(ctx, name, mtu)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// MetricsRaised reports whether the metrics of the network's routes are raised, so that other
// ways out go first.
func (j *Journal) MetricsRaised() bool {
	_, ok := step.Find[step.RaiseMetrics](j.Added)
	return ok
}

// RestoreMetrics puts the metrics back that MetricsRaised tells of. The caller writes the journal
// after it.
func (j *Journal) RestoreMetrics(ctx context.Context, k step.Kernel) error {
	var errs []error
	j.Added = slices.DeleteFunc(j.Added, func(s step.Step) bool {
		raised, ok := s.(step.RaiseMetrics)
		if !ok {
			return false
		}
		err := raised.Undo(ctx, k)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}
