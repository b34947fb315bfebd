package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
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
	if err := u.follow(ctx, u.kernel()); err != nil {
		return err
	}
	facts, err := host.ObserveNetwork()
	if err != nil {
		return err
	}
	if u.plan.Prefix6.IsValid() {
		if err := facts.ObserveIPv6(); err != nil {
			return err
		}
	}
	journal.OriginalSysctls(u.Place)(facts.Sysctls)
	for _, l := range u.Journal.Plan.Appeared(facts) {
		if err := u.add(ctx, facts, l); err != nil {
			return err
		}
	}
	if err := u.leave(ctx, facts); err != nil {
		return err
	}
	if err := u.turn(facts); err != nil {
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
			now, changed := u.Journal.Plan.Rerouted(facts, have)
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
func (u *uplinks) add(ctx context.Context, facts host.Facts, l host.Link) error {
	planned := &u.Journal.Plan
	forward, off := plan.ForwardingStep(facts, l.Name)
	if off {
		u.Journal.Added = append(u.Journal.Added, forward)
		planned.AddForwarded(l, false)
	}
	six := planned.Forward6Steps(facts, l.Name)
	if u.Journal.Added = append(u.Journal.Added, six...); len(six) > 0 {
		planned.AddForwarded(l, true)
	}
	planned.AddUplink(facts, l)
	u.Journal.Identify(facts.Links)
	u.publish()
	if err := u.save(); err != nil {
		return err
	}
	// The sets first: the link must forward no packet without them.
	if err := u.forwarding.limit(ctx); err != nil {
		return err
	}
	if off {
		six = append(six, forward)
	}
	return apply.Do(ctx, u.kernel(), six, nil)
}

// turn tells guests when the host becomes their router of IPv6 to the outside, or no longer is.
func (u *uplinks) turn(facts host.Facts) error {
	planned := &u.Journal.Plan
	on := planned.IsOutward6(facts)
	if planned.Outward6 == on {
		return nil
	}
	planned.Outward6 = on
	u.Network.SetRouter6(on)
	return u.save()
}

// forwarding is what the mender, names and uplinks share of the uplinks' forwarding. It is
// used within WhileRunning only.
type forwarding struct {
	base
	held map[string][]string // the links in the table's sets, as far as known
}

// limit makes the network's sets hold the uplinks. The rules let guests leave by those of a
// network that names its uplink, and drop what the forwarding of uplinks newly lets pass
// between the host's other links, until another program, such as Docker or libvirt, makes all
// links forward: then that program's rules say what may (F43).
func (f *forwarding) limit(ctx context.Context) error {
	if !f.plan.HasForwarding() {
		return nil
	}
	links, err := f.Journal.NewlyForwarded(ctx, f.kernel())
	if err != nil {
		return err
	}
	six, lifted, err := f.Journal.NewlyForwarded6(ctx, f.kernel())
	if err != nil {
		return err
	}
	var errs []error
	for _, set := range f.Journal.Plan.LinkSets(links, six, lifted) {
		errs = append(errs, f.set(set))
	}
	return errors.Join(errs...)
}

// set makes a set of the table hold its links.
func (f *forwarding) set(want nft.Set) error {
	if now, known := f.held[want.Name]; known && slices.Equal(want.Links, now) {
		return nil
	}
	delete(f.held, want.Name)
	if err := f.Host.SetElements(host.TableName(f.Place.Name), want); err != nil {
		return err
	}
	f.held[want.Name] = slices.Clone(want.Links)
	return nil
}

// limitAnew is limit for a table that was made anew.
func (f *forwarding) limitAnew(ctx context.Context) error {
	clear(f.held)
	return f.limit(ctx)
}
