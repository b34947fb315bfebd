package apply

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/step"
)

// Drift returns texts for the user: which effects of the steps other programs changed, and
// what of other programs the undo takes along.
func Drift(ctx context.Context, k step.Kernel, steps []step.Step) []string {
	var texts []string
	for _, s := range steps {
		if d, ok := s.(step.Drifter); ok {
			texts = append(texts, d.Drift(ctx, k, steps)...)
		}
	}
	return texts
}
