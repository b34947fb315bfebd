package keeper

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// yield lets other ways out go before the host's routes by the pulled cable.
func (l *lan) yield(uplink host.Link) {
	k := l.k
	if k.journal.Plan.Network.Macvtap {
		return // the host's own NIC: who manages it sees its cable
	}
	changed := false
	err := k.whileRunning(func() error {
		bridge, ok, err := k.host.Link(context.TODO(), k.journal.Plan.Bridge)
		if err != nil || !ok || k.journal.Yields() {
			return err
		}
		if err := k.host.GiveUpRouters(bridge); err != nil {
			k.log.Warn("give up routers", "error", err) // it takes half a minute then
		}
		step, err := k.host.Raisable(bridge)
		if err != nil || len(step.Held.Routes) == 0 {
			return err
		}
		changed = true
		k.journal.Added = append(k.journal.Added, step)
		if err := k.journal.Write(k.paths.journal()); err != nil {
			return err
		}
		return step.Do(context.TODO(), k.host.Kernel())
	})
	if err != nil {
		k.note(fmt.Sprintf("the cable of %s is pulled, and the host's routes by it do not give way to others: %v", uplink.Name, err))
	} else if changed {
		k.note(fmt.Sprintf("the cable of %s is pulled: the host's routes by it give way to others until it is back", uplink.Name))
	}
}

// restore makes the routes as they were.
func (l *lan) restore(uplink host.Link) {
	k := l.k
	changed := false
	err := k.whileRunning(func() error {
		if changed = k.journal.Yields(); !changed {
			return nil
		}
		if err := k.journal.Restore(context.TODO(), k.host.Kernel()); err != nil {
			return err
		}
		return k.journal.Write(k.paths.journal())
	})
	if err != nil {
		k.note(fmt.Sprintf("the cable of %s is back, and the host's routes by it are not as they were: %v", uplink.Name, err))
	} else if changed {
		k.note(fmt.Sprintf("the cable of %s is back, and the host's routes by it are as they were", uplink.Name))
	}
}
