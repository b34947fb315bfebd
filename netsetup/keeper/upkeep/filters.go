package upkeep

import (
	"context"
	"slices"
	"time"

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
// have started or read its settings again. It returns the accepts to hold. New ones
// are in the journal by then. It is called within WhileRunning.
func (m *mender) refreshAccepts(ctx context.Context) (step.List, error) {
	filters, err := m.Host.ReadFilters(ctx)
	if err != nil {
		return nil, err
	}
	accepts, notes := m.Journal.Plan.AcceptSteps(filters, m.zones.runs.Load())
	for _, n := range notes {
		m.Network.NoteOnce(n)
	}
	known := slices.Concat(m.Journal.Plan.Steps, m.Journal.Added)
	fresh := slices.DeleteFunc(slices.Clone(accepts), func(s step.Step) bool { return slices.Contains(known, s) })
	if len(fresh) == 0 {
		return accepts, nil
	}
	m.Journal.Added = append(m.Journal.Added, fresh...)
	return accepts, m.save()
}
