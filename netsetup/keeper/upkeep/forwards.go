package upkeep

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/keeper"
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

// Barriers tell what keeps other machines from forwards that a VM gets. It is called with the
// keeper's lock of changes held.
func (t *Tasks) Barriers(rules filters.Ruleset, list []keeper.Forward) []keeper.Note {
	if t.mender == nil {
		return nil
	}
	notes := t.mender.barriers(rules, list)
	for _, n := range notes {
		t.mender.barred[n] = true
	}
	return notes
}

func (m *mender) barriers(rules filters.Ruleset, list []keeper.Forward) (notes []keeper.Note) {
	for _, b := range m.Journal.Plan.Barriers(rules, list) {
		subject := subjectOf(b.Forward)
		notes = append(notes, keeper.Note{Subject: subject, Text: subject + ": " + b.Why, Remedy: b.Remedy.Sentence()})
	}
	return notes
}

func subjectOf(f keeper.Forward) string { return "forward " + f.String() }

// tellBarred tells of programs that keep other machines from forwards since they have started, or
// have read their settings again: once for each forward. It is called within WhileRunning.
func (m *mender) tellBarred(rules filters.Ruleset) {
	var list []keeper.Forward
	subjects := map[string]bool{}
	for _, vm := range m.Network.Members() {
		for _, p := range vm.Ports {
			for _, f := range p.Forwards {
				list = append(list, f.Forward)
				subjects[subjectOf(f.Forward)] = true
			}
		}
	}
	maps.DeleteFunc(m.barred, func(n keeper.Note, _ bool) bool { return !subjects[n.Subject] })
	for _, n := range m.barriers(rules, list) {
		if !m.barred[n] {
			m.barred[n] = true
			m.Network.Note(n)
		}
	}
}
