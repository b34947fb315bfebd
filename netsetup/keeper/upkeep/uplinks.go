package upkeep

import (
	"context"
	"errors"
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
}

func (u *uplinks) String() string { return "uplinks" }

// Run looks at the routes after each event.
func (u *uplinks) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.changed:
		}
		wait(ctx, settleInterval)
		if err := u.Network.WhileRunning(ctx, func() error { return u.refresh(ctx) }); err != nil && ctx.Err() == nil {
			u.Log.Warn("refresh uplinks", "error", err)
		}
	}
}

// refresh is called within WhileRunning.
func (u *uplinks) refresh(ctx context.Context) error {
	facts, err := host.ObserveNetwork()
	if err != nil {
		return err
	}
	journal.OriginalSysctls(u.Place)(facts.Sysctls)
	for _, name := range u.Journal.Plan.Appeared(facts) {
		if err := u.add(ctx, facts, name); err != nil {
			return err
		}
	}
	if err := u.leave(ctx, facts); err != nil {
		return err
	}
	for _, text := range u.Journal.Plan.UnreachedOf(facts) {
		u.Network.NoteOnce(u.about(text, ""))
	}
	return nil
}

// leave makes guests leave by the uplink that the profile names, also after the host's routing
// or that uplink's gateway has changed.
func (u *uplinks) leave(ctx context.Context, facts host.Facts) error {
	for _, steps := range []step.List{u.Journal.Plan.Steps, u.Journal.Added} {
		for i, s := range steps {
			have, ok := s.(step.LeaveBy)
			if !ok {
				continue
			}
			now, changed := plan.Rerouted(facts, have)
			if !changed {
				return nil
			}
			steps[i] = now
			return errors.Join(u.save(), now.Do(ctx, u.kernel()))
		}
	}
	key := host.RPFilterKey(u.plan.Network.Uplink)
	if v, err := host.ReadSysctl(key); err == nil {
		facts.Sysctls[key] = v
	}
	need := u.Journal.Plan.ExitSteps(facts)
	if len(need) == 0 {
		return nil
	}
	u.Journal.Added = append(u.Journal.Added, need...)
	if err := u.save(); err != nil {
		return err
	}
	return apply.Do(ctx, u.kernel(), need, nil)
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
	planned.Follow(facts, name)
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
