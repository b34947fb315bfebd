package keeper

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
)

// round is how often the LAN is looked at without an event: of the host's sleep
// nothing tells.
const round = 5 * time.Second

// lan sees to a network in mode bridge while it runs: the uplink's cable and MTU,
// and whether the LAN takes the guests' frames.
type lan struct {
	k       *keeper
	quit    chan struct{}
	changed chan struct{}
	conn    *netlink.Conn // nil if events cannot be had
	guard   *guardian
	cable   cable
	mtu     int // of the LAN
	checks  checks
	checked bool               // the LAN was looked for again
	asked   map[string]*asking // by tap
}

// watchLAN starts it.
func (k *keeper) watchLAN(g *guardian) (stop func()) {
	l := &lan{k: k, quit: make(chan struct{}), changed: make(chan struct{}, 1), guard: g, asked: map[string]*asking{}, mtu: k.mtuAtFirst()}
	l.cable.yields = k.journal.Yields() // a dead keeper left it so
	l.cable.pulled = l.cable.yields
	conn, err := listenGroups(unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK})
	if err != nil {
		k.log.Warn("follow the uplink", "error", err)
	} else {
		l.conn = conn
		go hear(conn, l.changed)
	}
	go l.run()
	return l.stop
}

// now reads the clocks; tests have hosts that sleep.
var now = clocks

func clocks() clock {
	var boot, awake unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)   //nolint:errcheck // it has no way to fail
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) //nolint:errcheck // as above
	return clock{time.Duration(boot.Nano()), time.Duration(awake.Nano())}
}

func (l *lan) stop() {
	close(l.quit)
	l.checks.cancel()
	if l.conn != nil {
		l.conn.Close() //nolint:errcheck // nothing follows from it
	}
}

func (l *lan) run() {
	tick := time.NewTicker(round)
	defer tick.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
		case <-again.C:
		case <-l.changed:
		}
		if d := l.look(); d > 0 {
			again.Reset(d)
		}
	}
}

// look looks once and does what is to be done; it returns after how long to look
// again, 0 if not before something happens.
func (l *lan) look() time.Duration {
	uplink, ok, err := l.k.host.Link(context.TODO(), l.k.uplink())
	if err != nil || !ok {
		return 0 // unplugged for good, or just being undone
	}
	d := l.cable.look(uplink.Carrier && uplink.Up, now())
	l.do(d, uplink)
	l.followMTU(uplink)
	asks := l.askForGuests(uplink)
	return cmp.Or(min(d.again, asks), d.again, asks)
}

func (l *lan) do(d doing, uplink host.Link) {
	if d.slept {
		poke(l.guard.changed) // whatever is not as it was is put right
	}
	if d.yield {
		l.yield(uplink)
	}
	if d.restore {
		l.restore(uplink)
	}
	if d.replug {
		l.k.replug()
	}
	if d.check {
		l.asked, l.checked = map[string]*asking{}, true
		l.checks.start(l, uplink)
	}
}

// uplink is the link that leads to the LAN: the NIC, or a bridge that was there.
func (k *keeper) uplink() string { return k.journal.Plan.Network.Uplink }

// hostLink is the link that the host itself has its addresses of the LAN on.
func (k *keeper) hostLink() string {
	if k.journal.Plan.Bridge != "" {
		return k.journal.Plan.Bridge
	}
	return k.uplink()
}

// replug has every guest see its cable pulled and plugged, so that it asks for its
// lease again.
func (k *keeper) replug() {
	k.mu.Lock()
	orders := map[*member][]int{}
	for _, m := range k.vms {
		for _, p := range m.ports {
			if !m.away {
				orders[m] = append(orders[m], p.NIC)
			}
		}
	}
	k.mu.Unlock()
	for m, nics := range orders {
		k.tell(m, reply{Replug: nics})
	}
}

// followMTU gives the bridge and the VMs' links the LAN's MTU when that changes: a
// smaller one would swallow what the bridge still takes.
func (l *lan) followMTU(uplink host.Link) {
	k := l.k
	mtu, err := k.lanMTU(uplink)
	if err != nil {
		k.log.Warn("look for the MTU", "error", err)
		return
	}
	if mtu == l.mtu {
		return
	}
	err = k.whileRunning(func() error {
		if err := journal.FollowMTU(context.TODO(), k.host.Kernel(), k.journal, mtu); err != nil {
			return err
		}
		return k.journal.Write(k.paths.journal())
	})
	text := fmt.Sprintf("the MTU of %s was %d and is %d: the VMs' links follow; a guest keeps its own until it is told", uplink.Name, l.mtu, mtu)
	if err != nil {
		text = fmt.Sprintf("the MTU of %s was %d and is %d, and the VMs' links cannot follow: %v", uplink.Name, l.mtu, mtu, err)
	}
	l.mtu = mtu
	k.note(text)
}

// mtuAtFirst is the LAN's MTU as the VMs' links have it, which they keep until it
// changes: the administrator of a bridge that was there may have set that to another
// than its ports'.
func (k *keeper) mtuAtFirst() int {
	uplink, ok, err := k.host.Link(context.TODO(), k.uplink())
	if err == nil && ok && uplink.Kind == "bridge" {
		if mtu, err := k.lanMTU(uplink); err == nil {
			return mtu
		}
	}
	return k.journal.Plan.MTU
}

// lanMTU is the uplink's; of a bridge that was there, the smallest of its other
// ports, because the bridge's own is held down by our ports (F54).
func (k *keeper) lanMTU(uplink host.Link) (int, error) {
	if uplink.Kind != "bridge" {
		return uplink.MTU, nil
	}
	links, err := k.host.ListLinks(context.TODO())
	if err != nil {
		return 0, err
	}
	least := 0
	for _, p := range links {
		if p.Master == uplink.Index && !strings.HasPrefix(p.Alias, "qnet:") && (least == 0 || p.MTU < least) {
			least = p.MTU
		}
	}
	return cmp.Or(least, uplink.MTU), nil
}
