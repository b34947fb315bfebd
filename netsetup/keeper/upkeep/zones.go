package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// zoneInterval is the time between two tries to talk to a firewalld, or a bus, that
// does not answer.
const zoneInterval = 2 * time.Second

// zones keeps the bridge in its zone: firewalld may start later than the network,
// and forgets the zone whenever it reloads.
type zones struct {
	base
	changed signal
	runs    atomic.Bool // firewalld runs
}

func (z *zones) String() string { return "zones" }

// Run looks at firewalld whenever it says something.
func (z *zones) Run(ctx context.Context) error {
	var watcher sync.WaitGroup
	defer watcher.Wait()
	watcher.Go(func() { z.watch(ctx) })
	again := time.NewTimer(patrolInterval)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-z.changed:
		}
		if !wait(ctx, settleInterval) {
			return nil
		}
		err := z.refresh(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		z.Network.NoteOnce(keeper.Note{Subject: "firewalld", Text: err.Error()})
		if !errors.Is(err, firewalld.ErrRefused) { // a signal ends that
			again.Reset(zoneInterval)
		}
	}
}

func (z *zones) watch(ctx context.Context) {
	heard := func(runs bool) {
		z.runs.Store(runs)
		z.changed.set()
	}
	for ctx.Err() == nil {
		// A host without a system bus is asked again: it may start one later.
		if err := firewalld.Watch(ctx, heard); err != nil {
			wait(ctx, busInterval)
		}
	}
}

// refresh tells firewalld of the bridge, if it does not know of it.
func (z *zones) refresh(ctx context.Context) error {
	state, err := firewalld.Observe(ctx)
	if err != nil || !state.Running {
		return err
	}
	return z.Network.WhileRunning(ctx, func() error {
		zone, known := step.Find[step.SetZone](z.Journal.Steps())
		if !known {
			fresh, wanted := z.Journal.Plan.Zone(state)
			if !wanted {
				return nil
			}
			zone = fresh
			z.Journal.Added = append(z.Journal.Added, zone)
			if err := z.save(); err != nil {
				return err
			}
		}
		if holds, err := zone.Holds(ctx, z.kernel()); holds || err != nil {
			return err
		}
		if err := zone.Do(ctx, z.kernel()); err != nil {
			return fmt.Errorf("network %s: %w", z.Place.Name, err)
		}
		return nil
	})
}
