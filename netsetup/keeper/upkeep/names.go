package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// namesInterval is the least time between two looks at the uplinks' names.
const namesInterval = 50 * time.Millisecond

// names follows uplinks that are renamed, and those that are made again. It does so at once,
// while the mender waits for quiet: nftables matches links by their names.
type names struct {
	base
	changed    signal
	forwarding *forwarding
	uplinks    *uplinks // nil where the mode needs none
}

func (n *names) String() string { return "names" }

// Run looks at the uplinks at once, because the keeper may have adopted the network, and
// after each event of a link.
func (n *names) Run(ctx context.Context) error {
	n.look(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.changed:
		}
		if n.same() {
			wait(ctx, namesInterval)
			continue
		}
		n.look(ctx)
		wait(ctx, mendInterval) // an uplink that is gone makes each look as costly
	}
}

// look follows the names, and tells the rules and the task uplinks of them.
func (n *names) look(ctx context.Context) {
	err := n.Network.WhileRunning(ctx, func() error {
		_, err := n.restoreNames(ctx, n.kernel())
		return errors.Join(err, n.follow(ctx, n.kernel()), n.forwarding.limit(ctx))
	})
	if err != nil && ctx.Err() == nil {
		n.Log.Warn("follow the names of uplinks", "error", err)
	}
	if n.uplinks != nil {
		n.uplinks.changed.set()
	}
}

// same reports whether each uplink still is the link that it was, and the network's own bridge
// has its name. It asks for each by its index: a host may have thousands of links, which
// change all the time.
func (n *names) same() bool {
	now := n.live.Load()
	if l, ok, err := host.ReadLinkByIndex(now.bridge); err == nil && ok && l.Name != now.plan.Bridge {
		return false
	}
	for _, id := range now.links {
		l, ok, err := host.ReadLinkByIndex(id.Index)
		if err != nil || !ok || !l.Identity().Same(id) {
			return false
		}
	}
	return true
}

// follow gives the journal the names that the uplinks have by now. It is called within
// WhileRunning, before the task does anything by a name of the journal.
func (b *base) follow(ctx context.Context, k step.Kernel) error {
	was := b.Journal.Plan.Client.Link
	changed, err := b.Journal.FollowLinks(ctx, k)
	if err != nil || !changed {
		return err
	}
	b.publish()
	b.Network.PortsRenamed()
	letGo := b.letGoAgain(was)
	if err := b.save(); err != nil {
		return err
	}
	var errs []error
	for _, s := range letGo {
		errs = append(errs, s.Do(ctx, b.kernel()))
	}
	return errors.Join(errs...)
}

// restoreNames gives the network's own links their names again, and tells of it. It is called
// within WhileRunning.
func (b *base) restoreNames(ctx context.Context, k step.Kernel) (renamed bool, err error) {
	renamed, err = journal.RestoreNames(ctx, k, b.Place.Name)
	if renamed {
		b.Network.NoteOnce(b.about(fmt.Sprintf("another program renamed links of network %s: they have their names again", b.Place.Name), ""))
	}
	return renamed, err
}

// letGoAgain has systemd-networkd, which knows a link by its name, let go of a NIC under its
// new name as well. The step goes into the plan beside the one for the old name, because it
// must be undone after the move.
func (b *base) letGoAgain(was string) step.List {
	c := b.Journal.Plan.Client
	if c.Program != managers.Networkd || c.Link == was {
		return nil
	}
	i := slices.IndexFunc(b.Journal.Plan.Steps, func(s step.Step) bool {
		f, ok := s.(step.ConfigFile)
		return ok && f.NIC
	})
	if i < 0 {
		return nil
	}
	f := managers.LetGo(c.Link)
	file := step.ConfigFile{Program: c.Program, Path: f.Path, Text: f.Text, NIC: true}
	b.Journal.Plan.Steps = slices.Insert(slices.Clone(b.Journal.Plan.Steps), i+1, step.Step(file))
	return step.List{file, step.Reload{Program: c.Program}}
}
