package keeper

import (
	"context"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// settle is how long changes of routes are gathered before one look at them: a
// DHCP client makes several.
const settle = 100 * time.Millisecond

// watchUplinks turns forwarding on for uplinks that appear while the network
// runs, so that guests follow the host from Wi-Fi to Ethernet and into a VPN.
func (k *keeper) watchUplinks() (stop func()) {
	quit := make(chan struct{})
	changed := make(chan struct{}, 1)
	go func() {
		for k.follow(quit, changed) {
			poke(changed) // events were lost: look, and follow again
		}
	}()
	go func() {
		for {
			select {
			case <-quit:
				return
			case <-changed:
			}
			select {
			case <-quit:
				return
			case <-time.After(settle):
			}
			if err := k.whileRunning(k.refreshUplinks); err != nil {
				k.log.Warn("refresh uplinks", "error", err)
			}
		}
	}()
	return func() { close(quit) }
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow passes route events on until quit; it reports whether to subscribe again.
func (k *keeper) follow(quit chan struct{}, changed chan<- struct{}) bool {
	updates := make(chan netlink.RouteUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) { k.log.Warn("follow routes", "error", err) },
	})
	if err != nil {
		k.log.Warn("follow routes", "error", err)
		return false
	}
	for {
		select {
		case <-quit:
			return false
		case _, ok := <-updates:
			if !ok {
				return true
			}
			poke(changed)
		}
	}
}

// guardUplinks has the network's rules drop what its forwarding of uplinks newly lets
// pass between the host's other links, until another program, such as Docker or
// libvirt, has all links forward: then that program's rules say what may (F43). It
// runs by whileRunning.
func (k *keeper) guardUplinks() error {
	if k.journal.Plan.Network.Mode != profiles.NAT {
		return nil
	}
	links, err := plan.NewlyForwarded(context.TODO(), k.host.Kernel(), slices.Concat(k.journal.Plan.Steps, k.journal.Added))
	if err != nil || k.guarded != nil && slices.Equal(links, *k.guarded) {
		return err
	}
	k.guarded = nil
	if err := k.host.SetLinks(host.TableName(k.network), k.journal.Plan.ForwardedSet(), links); err != nil {
		return err
	}
	k.guarded = &links
	return nil
}

// renewUplinks turns forwarding on for uplinks that went and came back under their
// names, as VPNs' do: nobody has undone anything there. It runs by whileRunning.
func (k *keeper) renewUplinks(seen step.Seen) error {
	for _, s := range step.All[step.SetSysctl](slices.Concat(k.journal.Plan.Steps, k.journal.Added)) {
		name, ok := plan.UplinkOf(s)
		if !ok {
			continue
		}
		l, there, err := seen.Link(context.TODO(), name)
		if err != nil || !there {
			continue
		}
		if was := k.uplinks[name]; was != 0 && was != l.Index {
			if err := s.Do(context.TODO(), k.host.Kernel()); err != nil {
				return err
			}
		}
		k.uplinks[name] = l.Index
	}
	return nil
}

// refreshUplinks runs by whileRunning.
func (k *keeper) refreshUplinks() error {
	facts, err := host.ObserveNetwork()
	if err != nil {
		return err
	}
	journal.Original(k.place())(facts.Sysctls)
	planned := &k.journal.Plan
	for _, name := range facts.Uplinks() {
		pinned := planned.Network.Uplink
		if slices.Contains(planned.Uplinks, name) || pinned != "" && pinned != name {
			continue
		}
		step, off := plan.NewUplink(facts, name)
		if l, ok := facts.Link(name); ok {
			k.uplinks[name] = l.Index
		}
		if off {
			k.journal.Added = append(k.journal.Added, step)
			planned.AddForwarded(name)
		}
		planned.Uplinks = append(planned.Uplinks, name)
		if err := k.journal.Write(k.paths.journal()); err != nil {
			return err
		}
		if !off {
			continue
		}
		// The guard first: the link must not forward a packet without it.
		if err := k.guardUplinks(); err != nil {
			return err
		}
		if err := step.Do(context.TODO(), k.host.Kernel()); err != nil {
			return err
		}
	}
	return nil
}
