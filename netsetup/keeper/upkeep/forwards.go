package upkeep

import (
	"context"
	"errors"
	"slices"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// ForwardsChanged inserts the accepts that the forwards of the journal's plan need in other
// programs' chains, and deletes those that none needs any more. It is called with the keeper's
// lock of changes held. A forward without its accept goes on by the relay's socket only where
// nothing has its packets before; the mender tries again, and tells.
func (t *Tasks) ForwardsChanged(ctx context.Context) error {
	if t.mender == nil {
		return nil
	}
	lock, err := lockfile.Wait(ctx, t.mender.Place.PlanLock())
	if err != nil {
		return err
	}
	defer lock.Release()
	return t.mender.changeAccepts(ctx)
}

func (m *mender) changeAccepts(ctx context.Context) error {
	rules, err := m.Host.ReadFilters(ctx)
	if err != nil {
		return err
	}
	wanted, _ := m.Journal.Plan.AcceptSteps(rules, m.zones.runs.Load())
	var stale, fresh, left step.List
	for _, s := range m.Journal.Added {
		if forwards(s) && !slices.Contains(wanted, s) {
			stale = append(stale, s)
		} else {
			left = append(left, s)
		}
	}
	for _, s := range wanted {
		if forwards(s) && !slices.Contains(left, s) {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) > 0 {
		m.Journal.Added = append(m.Journal.Added, fresh...)
		if err := m.save(); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range fresh {
		errs = append(errs, apply.Do(ctx, m.kernel(), step.List{s}, nil))
	}
	if len(stale) > 0 {
		errs = append(errs, apply.Undo(ctx, m.kernel(), stale))
		m.Journal.Added = slices.Concat(left, fresh)
		errs = append(errs, m.save())
	}
	return errors.Join(errs...)
}

// forwards reports whether the step is an accept for forwards.
func forwards(s step.Step) bool {
	a, ok := s.(step.AddAccept)
	return ok && a.Rule.Forwards()
}
