package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/hostlease"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// agreeTime bounds the wait for a DHCP server's agreement, of which servers need
// milliseconds; the first half of it is the server's own that gave the lease.
const agreeTime = 4 * time.Second

// tryLease renews the lease of a client that will go deaf, before anything is
// changed: a server that does not agree now would not while VMs run.
func (k *keeper) tryLease(p plan.Plan) error {
	c := p.Client
	if !c.GoesDeaf() {
		return nil
	}
	nic, ok, err := k.host.Link(context.TODO(), c.Link)
	if err != nil || !ok {
		return err // the move says so
	}
	k.waits("the DHCP server, whether it renews the host's lease for qnet")
	for _, broadcast := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(context.Background(), agreeTime/2)
		_, err = hostlease.Renew(ctx, nic.Index, c.Lease, broadcast)
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf(`plan network %q: uplink %q has its address from %s, which hears nothing on a bridge's port, and qnet cannot renew the lease `+
		`in its place: %w: give the NIC a static address, or use mode = "nat": %w`, p.Network.Name, c.Link, c.Program, err, host.ErrRefused)
}

// startLease keeps the lease of the NIC that became a port.
func (k *keeper) startLease() {
	plan := k.journal.Plan
	if plan.Client.Program == "" {
		return
	}
	k.lease = hostlease.Start(hostlease.Config{
		Client: plan.Client, Port: plan.Client.Link, Bridge: plan.Bridge,
		Change: k.whileRunning, Move: k.moveAgain, Warn: k.note, Log: k.log,
	})
}

// moveAgain moves to the bridge what the NIC has by now.
func (k *keeper) moveAgain() error {
	var errs []error
	for _, s := range k.journal.Plan.Steps {
		if move, ok := s.(step.MoveToBridge); ok {
			errs = append(errs, move.Do(context.TODO(), k.host.Kernel()))
		}
	}
	return errors.Join(errs...)
}
