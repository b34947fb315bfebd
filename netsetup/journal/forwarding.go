package journal

import (
	"context"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// NewlyForwarded lists the uplinks whose forwarding the network turned on and no other program
// wants on. They belong into plan.LinkSets: a rule drops what their forwarding would newly
// let pass between the host's other links.
func (j *Journal) NewlyForwarded(ctx context.Context, k step.Kernel) ([]string, error) {
	var links []string
	for _, steps := range []step.List{j.Plan.Steps, j.Added} {
		for _, s := range step.All[step.SetSysctl](steps) {
			link, ok := plan.UplinkOf(s)
			if !ok {
				continue
			}
			wanted, err := s.WantedByOthers(ctx, k)
			if err != nil {
				return nil, err
			}
			if !wanted {
				links = append(links, link)
			}
		}
	}
	return links, nil
}

// NewlyForwarded6 is NewlyForwarded for IPv6. Where the network made all links forward, and another
// program wants that by now, lifted has all links.
func (j *Journal) NewlyForwarded6(ctx context.Context, k step.Kernel) (links, lifted []string, err error) {
	all := host.IPv6Key("all", host.Forwarding)
	for _, s := range step.All[step.SetSysctl](slices.Concat(j.Plan.Steps, j.Added)) {
		link, name, ok := host.IPv6Link(s.Key)
		switch {
		case !ok || s.Old == "":
		case s.Key == all:
			wanted, err := s.WantedByOthers(ctx, k)
			if err != nil || !wanted {
				return j.uplinks6(ctx, k), nil, err
			}
			there, err := k.ListLinks(ctx)
			for _, l := range there {
				lifted = append(lifted, l.Name)
			}
			return nil, lifted, err
		case name == host.ForceForwarding:
			links = append(links, link)
		}
	}
	if len(links) == 0 {
		return nil, nil, nil
	}
	if now, err := k.Sysctl(ctx, all); err != nil || now == "1" {
		return nil, nil, err
	}
	return links, nil, nil
}

// uplinks6 are the uplinks that are no bridge of a network whose guests the host forwards IPv6 for:
// such a bridge counts as an uplink when another program made a link a port of it.
func (j *Journal) uplinks6(ctx context.Context, k step.Kernel) []string {
	return slices.DeleteFunc(slices.Clone(j.Plan.Uplinks), func(l string) bool {
		v, err := k.Sysctl(ctx, host.IPv6Key(l, host.Solicitations))
		return err == nil && v == "0"
	})
}
