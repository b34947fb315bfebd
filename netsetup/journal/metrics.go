package journal

import (
	"context"
	"errors"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/step"
)

// MetricsRaised reports whether the metrics of the host's routes by the bridge are raised, so
// that the host prefers other ways out.
func (j *Journal) MetricsRaised() bool {
	_, ok := step.Find[step.RaiseMetrics](j.Added)
	return ok
}

// RestoreMetrics restores the metrics that are raised. A step that fails stays in the journal.
// The caller writes the journal.
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
