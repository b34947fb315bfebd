package journal

import (
	"context"

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
