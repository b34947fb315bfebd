package journal

import (
	"context"
	"errors"

	"github.com/qnet-vm/qnet/netsetup/step"
)

// FollowMTU gives the bridge and the ports of a network in mode bridge the MTU that the uplink
// has by now, in bytes, and writes that MTU into the plan, for ports made later. Networks in
// other modes keep their MTU: a profile chose it, or DHCP told it to the guests. The caller
// writes the journal.
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
