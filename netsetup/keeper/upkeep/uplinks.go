package upkeep

import (
	"context"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// settleInterval is how long changes of routes are gathered before one look at them:
// a DHCP client makes several. The same holds for firewalld's signals.
const settleInterval = 100 * time.Millisecond

// uplinks turns forwarding on for uplinks that appear while the network runs, so
// that guests follow the host from Wi-Fi to Ethernet and into a VPN.
type uplinks struct {
	base
	changed    signal
	forwarding *forwarding
	pace       pace
}

func (u *uplinks) String() string { return "uplinks" }

// Run looks at the routes after each event that ways lets through.
func (u *uplinks) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.changed:
		}
		wait(ctx, settleInterval)
		var cost time.Duration
		err := u.Network.WhileRunning(ctx, func() (err error) {
			cost = measure(func() { err = u.refresh(ctx) })
			return err
		})
		if err != nil && ctx.Err() == nil {
			u.Log.Warn("refresh uplinks", "error", err)
		}
		wait(ctx, u.pace.after(cost))
	}
}

// refresh is called within WhileRunning.
func (u *uplinks) refresh(ctx context.Context) error {
	facts, err := host.ObserveNetwork()
	if err != nil {
		return err
	}
	journal.OriginalSysctls(u.Place)(facts.Sysctls)
	planned := &u.Journal.Plan
	for _, name := range facts.Uplinks() {
		pinned := planned.Network.Uplink
		if slices.Contains(planned.Uplinks, name) || pinned != "" && pinned != name {
			continue
		}
		if err := u.add(ctx, facts, name); err != nil {
			return err
		}
	}
	return nil
}

// add makes the link an uplink of the network.
func (u *uplinks) add(ctx context.Context, facts host.Facts, name string) error {
	planned := &u.Journal.Plan
	forward, off := plan.ForwardingStep(facts, name)
	if l, ok := facts.Link(name); ok {
		u.forwarding.indexes[name] = l.Index
	}
	if off {
		u.Journal.Added = append(u.Journal.Added, forward)
		planned.AddForwarded(name)
	}
	planned.Uplinks = append(planned.Uplinks, name)
	if err := u.save(); err != nil || !off {
		return err
	}
	// The set first: the link must forward no packet without it.
	if err := u.forwarding.limit(ctx); err != nil {
		return err
	}
	return forward.Do(ctx, u.kernel())
}

// forwarding is what the mender and uplinks share of the uplinks' forwarding. It is
// used within WhileRunning only.
type forwarding struct {
	base
	newly   *[]string      // the links in the table's set, nil if not known
	indexes map[string]int // of the uplinks whose forwarding we turned on, by name
}

// limit makes the network's rules drop what its forwarding of uplinks newly lets
// pass between the host's other links, until another program, such as Docker or
// libvirt, makes all links forward: then that program's rules say what may (F43).
func (f *forwarding) limit(ctx context.Context) error {
	if f.plan.Network.Mode != profiles.NAT {
		return nil
	}
	links, err := f.Journal.NewlyForwarded(ctx, f.kernel())
	if err != nil || f.newly != nil && slices.Equal(links, *f.newly) {
		return err
	}
	f.newly = nil
	if err := f.Host.SetLinks(host.TableName(f.Place.Name), f.Journal.Plan.ForwardedSet(), links); err != nil {
		return err
	}
	f.newly = &links
	return nil
}

// limitAnew is limit for a table that was made anew.
func (f *forwarding) limitAnew(ctx context.Context) error {
	f.newly = nil
	return f.limit(ctx)
}

// renew turns forwarding on for uplinks that went and came back under their names, as
// VPNs' do: no program has undone anything there.
func (f *forwarding) renew(ctx context.Context, seen apply.Snapshot) error {
	for _, s := range step.All[step.SetSysctl](slices.Concat(f.Journal.Plan.Steps, f.Journal.Added)) {
		name, ok := plan.UplinkOf(s)
		if !ok {
			continue
		}
		l, there, err := seen.Link(ctx, name)
		if err != nil || !there {
			continue
		}
		if was := f.indexes[name]; was != 0 && was != l.Index {
			if err := s.Do(ctx, f.kernel()); err != nil {
				return err
			}
		}
		f.indexes[name] = l.Index
	}
	return nil
}
