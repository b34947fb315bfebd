package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// silentInterval is the time between two looks at the packet filters whose changes
// cause no event: iptables-legacy and br_netfilter.
const silentInterval = 500 * time.Millisecond

// silent wakes the mender when one of those filters has changed.
type silent struct{ changed signal }

func (s *silent) String() string { return "silent filters" }

func (s *silent) Run(ctx context.Context) error {
	tick := time.NewTicker(silentInterval)
	defer tick.Stop()
	for last := read.Silent(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now := read.Silent(); now != last {
			last = now
			s.changed.set()
		}
	}
}

// refreshAccepts decides anew what must be accepted, because another firewall may
// have started or read its settings again. It returns the accepts to hold, and the rules
// that it read. New ones are in the journal by then. It is called within WhileRunning.
func (m *mender) refreshAccepts(ctx context.Context) (accepts step.List, rules filters.Ruleset, err error) {
	if rules, err = m.Host.ReadFilters(ctx); err != nil {
		return nil, rules, err
	}
	accepts, notes := m.Journal.Plan.AcceptSteps(rules, m.zones.runs.Load())
	for _, n := range notes {
		m.Network.NoteOnce(n)
	}
	known := slices.Concat(m.Journal.Plan.Steps, m.Journal.Added)
	fresh := slices.DeleteFunc(slices.Clone(accepts), func(s step.Step) bool { return slices.Contains(known, s) })
	if len(fresh) == 0 {
		return accepts, rules, nil
	}
	m.Journal.Added = append(m.Journal.Added, fresh...)
	return accepts, rules, m.save()
}

// endFormerAccepts deletes, once in a keeper's life, the accepts of an older qnet whose network
// this keeper adopted: they let pass more than a network needs, such as guests to all ports of
// the gateway's address. It leaves those in chains that need none now. The accepts of this
// keeper stand by then. It is called within WhileRunning.
func (m *mender) endFormerAccepts(ctx context.Context, rules filters.Ruleset, accepts step.List) error {
	if m.narrowed || len(accepts) == 0 || slices.ContainsFunc(accepts, m.skips) {
		return nil
	}
	m.narrowed = true
	var former []filters.AcceptRule
	for _, rule := range rules.Marked(m.Place.Name) {
		inChain := slices.ContainsFunc(accepts, func(s step.Step) bool { return chainOf(s) == chainOf(step.AddAccept{Rule: rule}) })
		if inChain && !slices.ContainsFunc(accepts, func(s step.Step) bool { return inserts(s, rule) }) {
			former = append(former, rule)
		}
	}
	if former == nil {
		return nil
	}
	var errs []error
	for _, rule := range former {
		errs = append(errs, m.kernel().DeleteAccept(ctx, rule))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	gone := func(s step.Step) bool {
		return slices.ContainsFunc(former, func(rule filters.AcceptRule) bool { return inserts(s, rule) })
	}
	m.Journal.Plan.Steps = slices.DeleteFunc(slices.Clone(m.Journal.Plan.Steps), gone)
	m.Journal.Added = slices.DeleteFunc(slices.Clone(m.Journal.Added), gone)
	m.publish()
	return m.save()
}

// chainOf is an accept's rule but for what it lets pass.
func chainOf(s step.Step) filters.AcceptRule {
	a, _ := s.(step.AddAccept)
	a.Rule.Spec, a.Rule.Program = "", ""
	return a.Rule
}

// inserts reports whether the step inserts the rule, for whichever program's sake.
func inserts(s step.Step, rule filters.AcceptRule) bool {
	a, ok := s.(step.AddAccept)
	a.Rule.Program = rule.Program
	return ok && a.Rule == rule
}
