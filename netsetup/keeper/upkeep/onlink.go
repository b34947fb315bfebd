package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/onlink"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// onLink keeps guests without LAN from networks that the host joins while they run.
type onLink struct {
	base
	changed signal
	pace    pace
}

func (o *onLink) String() string { return "networks of the host's" }

// Run looks at the host's addresses and routes after each change of them.
func (o *onLink) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.changed:
		}
		wait(ctx, settleInterval)
		var cost time.Duration
		err := o.Network.WhileRunning(ctx, func() (err error) {
			cost = measure(func() { err = o.refresh() })
			return err
		})
		if err != nil && ctx.Err() == nil {
			o.Log.Warn("refresh networks of the host's", "error", err)
		}
		wait(ctx, o.pace.after(cost))
	}
}

// refresh makes the sets of all ports hold what the host reaches by now. It is called within
// WhileRunning.
func (o *onLink) refresh() error {
	type place struct {
		steps step.List
		i     int
	}
	var places []place
	for _, steps := range o.Journal.Ports {
		for i, s := range steps {
			if add, ok := s.(step.AddTable); ok && egress.HasLANSets(add.Table) {
				places = append(places, place{steps, i})
			}
		}
	}
	if len(places) == 0 {
		return nil
	}
	now, err := onlink.Read()
	if err != nil {
		return err
	}
	sets := egress.LANSets(now)
	var stale []string // tables
	for _, p := range places {
		add := p.steps[p.i].(step.AddTable)
		if now, changed := replaced(add.Table.Sets, sets); changed {
			add.Table.Sets = now
			p.steps[p.i] = add
			stale = append(stale, add.Table.Name)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	errs := []error{o.save()}
	for _, table := range stale {
		for _, s := range sets {
			errs = append(errs, o.Host.SetElements(table, s))
		}
	}
	return errors.Join(errs...)
}

// replaced returns the sets with some of them as they are by now, and whether one differs.
func replaced(sets, now []nft.Set) (list []nft.Set, changed bool) {
	list = slices.Clone(sets)
	for i := range list {
		for _, n := range now {
			if n.Name == list[i].Name && !slices.Equal(n.Prefixes, list[i].Prefixes) {
				list[i], changed = n, true
			}
		}
	}
	return list, changed
}
