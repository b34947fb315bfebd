package netsetup

import "errors"

// FollowMTU gives a network in mode bridge the MTU that its uplink has by now, and
// notes it in the plan for what is made later.
//
//	ip link set BRIDGE mtu MTU
//	ip link set TAP mtu MTU
func FollowMTU(k Kernel, j *Journal, mtu int) error {
	j.Plan.MTU = mtu
	var links []string
	for i, s := range j.Plan.Steps {
		if b, ok := s.(AddBridge); ok {
			b.MTU = mtu
			j.Plan.Steps[i] = b
			links = append(links, b.Name)
		}
	}
	for _, steps := range j.Ports {
		for _, s := range steps {
			if tap, ok := TapOf(s); ok {
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
