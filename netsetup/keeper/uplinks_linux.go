package keeper

import (
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/netsetup"
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

// refreshUplinks runs by whileRunning.
func (k *keeper) refreshUplinks() error {
	facts, err := netsetup.Observe()
	if err != nil {
		return err
	}
	original(facts, k.paths)
	plan := &k.journal.Plan
	for _, name := range facts.Uplinks() {
		pinned := plan.Network.Uplink
		if slices.Contains(plan.Uplinks, name) || pinned != "" && pinned != name {
			continue
		}
		step, off := netsetup.NewUplink(facts, name)
		if off {
			k.journal.Added = append(k.journal.Added, step)
			plan.Guard(name)
		}
		plan.Uplinks = append(plan.Uplinks, name)
		if err := k.journal.Write(k.paths.journal()); err != nil {
			return err
		}
		if !off {
			continue
		}
		// The guard first: the link must not forward a packet without it.
		if err := k.host.AddGuarded(plan.Network.Name, name); err != nil {
			return err
		}
		if err := step.Do(k.host); err != nil {
			return err
		}
	}
	return nil
}
