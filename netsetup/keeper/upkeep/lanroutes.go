package upkeep

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// yield makes the host's routes by the pulled cable give way to other ways out.
func (l *lan) yield(ctx context.Context, uplink host.Link) {
	if l.plan.Network.Macvtap {
		return // the host's own NIC: the program that configures it sees its cable
	}
	changed := false
	err := l.Network.WhileRunning(ctx, func() (err error) {
		changed, err = l.raiseRoutes(ctx)
		return err
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.note("the cable of %s is pulled, and the host's routes by it do not give way to others: %v", uplink.Name, err)
	case changed:
		l.note("the cable of %s is pulled: the host's routes by it give way to others until it is back", uplink.Name)
	}
}

// raiseRoutes raises the metrics of the bridge's routes, and reports whether it has
// any. It is called within WhileRunning.
func (l *lan) raiseRoutes(ctx context.Context) (changed bool, err error) {
	bridge, ok, err := l.Host.Link(ctx, l.hostLink())
	if err != nil || !ok || l.Journal.MetricsRaised() {
		return false, err
	}
	if err := l.Host.GiveUpRouters(bridge); err != nil {
		l.Log.Warn("give up routers", "error", err) // it takes half a minute then
	}
	raise, err := l.Host.Raisable(bridge)
	if err != nil || len(raise.Held.Routes) == 0 {
		return false, err
	}
	l.Journal.Added = append(l.Journal.Added, raise)
	if err := l.save(); err != nil {
		return true, err
	}
	return true, raise.Do(ctx, l.kernel())
}

// restore makes the routes as they were.
func (l *lan) restore(ctx context.Context, uplink host.Link) {
	changed := false
	err := l.Network.WhileRunning(ctx, func() error {
		if changed = l.Journal.MetricsRaised(); !changed {
			return nil
		}
		if err := l.Journal.RestoreMetrics(ctx, l.kernel()); err != nil {
			return err
		}
		return l.save()
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.note("the cable of %s is back, and the host's routes by it are not as they were: %v", uplink.Name, err)
	case changed:
		l.note("the cable of %s is back, and the host's routes by it are as they were", uplink.Name)
	}
}
