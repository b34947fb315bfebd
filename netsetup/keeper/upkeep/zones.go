package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// rest is between two tries to talk to a firewalld, or a bus, that does not answer.
const rest = 2 * time.Second

// busRetry is how often a system bus is looked for that does not run yet.
const busRetry = time.Second

// followFirewalld keeps the bridge in its zone: firewalld may start later than the
// network, and forgets the zone whenever it reloads.
func (k *keeper) followFirewalld() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	changed := make(chan struct{}, 1)
	hear := func(runs bool) {
		k.zoned.Store(runs)
		poke(changed)
	}
	go func() {
		for ctx.Err() == nil {
			// A host without a system bus is asked again, in case it is still to start.
			if err := firewalld.Watch(ctx, hear); err != nil {
				wait(ctx, busRetry)
			}
		}
	}()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			if !wait(ctx, settle) {
				return
			}
			err := k.refreshZone()
			if err != nil {
				k.noteOnce(err.Error())
			}
			if err != nil && !errors.Is(err, firewalld.ErrRefused) { // which a signal ends
				time.AfterFunc(rest, func() { poke(changed) })
			}
		}
	}()
	return cancel
}

// refreshZone tells firewalld of the bridge, if it does not know of it.
func (k *keeper) refreshZone() error {
	state, err := firewalld.Look()
	if err != nil || !state.Running {
		return err
	}
	return k.whileRunning(func() error {
		zone, known := step.Find[step.SetZone](k.journal.Steps())
		if !known {
			fresh, wanted := plan.NewZone(k.journal.Plan, state)
			if !wanted {
				return nil
			}
			zone = fresh
			k.journal.Added = append(k.journal.Added, zone)
			if err := k.journal.Write(k.paths.journal()); err != nil {
				return err
			}
		}
		if holds, err := zone.Holds(context.TODO(), k.host.Kernel()); holds || err != nil {
			return err
		}
		if err := zone.Do(context.TODO(), k.host.Kernel()); err != nil {
			return fmt.Errorf("network %s: %w", k.network, err)
		}
		return nil
	})
}
