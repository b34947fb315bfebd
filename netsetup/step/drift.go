package step

import (
	"context"
)

// Drift returns texts for the user: which effects of the steps other programs changed,
// and what of theirs the undo will take along.
func Drift(ctx context.Context, k Kernel, steps []Step) []string {
	var texts []string
	for _, s := range steps {
		if d, ok := s.(drifter); ok {
			texts = append(texts, d.drift(ctx, k, steps)...)
		}
	}
	return texts
}
