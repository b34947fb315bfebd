package upkeep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// mendInterval is the least time between two looks: links may come and go all the
	// time, as when many VMs start, and must not keep the keeper busy.
	mendInterval = 500 * time.Millisecond
	// quietInterval is how long nothing must have changed before the mender changes
	// anything: a firewall that reads its settings again runs a row of commands, and one
	// of the mender's among them may make one of the firewall's fail. quietTimeout
	// bounds the wait for that.
	quietInterval = 200 * time.Millisecond
	quietTimeout  = time.Second
	// lostTimeout is how long a tap may be gone before its VM is said to be cut off.
	lostTimeout = 3 * time.Second
)

// mender puts right what other programs change of the network.
type mender struct {
	base
	changed    signal
	forwarding *forwarding
	zones      *zones
	lease      *lease            // nil where the NIC's client needs none
	fights     map[string]*fight // by the step's command
	yielded    map[string]bool   // steps given up, and failures told, by their text
	lost       map[string]*loss  // by VM
	pace       pace
	narrowed   bool // endFormerAccepts has been

	barred map[keeper.Note]bool // what was told of forwards that are there
}

// loss is that of a VM's tap. A tap goes with its QEMU, a moment before the
// supervisor leaves; one that is gone for longer was deleted, and cannot be made
// again, because its other end is QEMU's.
type loss struct {
	since time.Time
	told  bool
}

func (m *mender) String() string { return "mender" }

// Run looks at the host at each event and at intervals.
func (m *mender) Run(ctx context.Context) error {
	tick := time.NewTicker(patrolInterval)
	defer tick.Stop()
	again := time.NewTimer(patrolInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-again.C:
		case <-m.changed:
			m.awaitQuiet(ctx)
		}
		var cost time.Duration
		err := m.Network.WhileRunning(ctx, func() (err error) {
			cost = measure(func() { err = m.mend(ctx) })
			return err
		})
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("mend network", "error", err)
		}
		if d := m.untilLost(); d > 0 {
			again.Reset(d)
		}
		wait(ctx, max(mendInterval, m.pace.after(cost)))
	}
}

// awaitQuiet waits until changes, which seldom come alone, are over.
func (m *mender) awaitQuiet(ctx context.Context) {
	for end := time.After(quietTimeout); ; {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-time.After(quietInterval):
			return
		case <-m.changed:
		}
	}
}

// mend is called within WhileRunning.
func (m *mender) mend(ctx context.Context) error {
	seen, err := apply.TakeSnapshot(ctx, m.kernel())
	if err != nil {
		return err
	}
	if err := m.follow(ctx, seen.Kernel); err != nil {
		return err
	}
	if renamed, err := m.restoreNames(ctx, seen.Kernel); err != nil || renamed {
		m.tellFailed(err)
		if seen, err = apply.TakeSnapshot(ctx, m.kernel()); err != nil {
			return err
		}
	}
	if m.lease != nil {
		m.tellFailed(m.lease.follow(ctx))
	}
	accepts, rules, err := m.refreshAccepts(ctx)
	m.tellFailed(err)
	if err == nil {
		m.tellBarred(rules)
	}
	// Before forwarding is turned on again that another program turned off.
	m.tellFailed(m.forwarding.limit(ctx))
	mended, err := apply.Mend(ctx, seen, slices.Concat(m.liveSteps(ctx, seen), accepts), m.skips)
	if err == nil {
		m.tellFailed(m.endFormerAccepts(ctx, rules, accepts))
	}
	if len(mended) == 0 && err == nil {
		return nil
	}
	m.tellMended(mended)
	err = errors.Join(err, m.restore(ctx, mended))
	m.tellFailed(err)
	return err
}

// restore does again what was lost with the objects that were mended.
func (m *mender) restore(ctx context.Context, mended []step.Step) error {
	var errs []error
	for _, s := range mended {
		switch s.(type) {
		case step.AddBridge:
			m.publish() // the new bridge's index
			errs = append(errs, m.Network.RestartServices(ctx))
		case step.AddTable:
			errs = append(errs, m.forwarding.limitAnew(ctx))
		}
	}
	return errors.Join(errs...)
}

// liveSteps are the steps of the network and of those VMs on it whose taps are there.
func (m *mender) liveSteps(ctx context.Context, seen apply.Snapshot) step.List {
	steps, _ := apply.SplitOptional(slices.Concat(m.Journal.Plan.Steps, m.Journal.Added))
	members := m.Network.Members()
	var all step.List
	for _, vm := range members {
		all = append(all, vm.Steps...)
	}
	gone := apply.Lost(ctx, seen, all)
	losses := map[string]*loss{}
	for _, vm := range members {
		if !vm.has(gone) {
			steps = append(steps, vm.Steps...)
			continue
		}
		losses[vm.VM] = m.lost[vm.VM]
		if losses[vm.VM] == nil {
			losses[vm.VM] = &loss{since: time.Now()}
		}
		m.tellLost(vm.VM, losses[vm.VM])
	}
	m.lost = losses
	return steps
}

func (m Member) has(taps []string) bool {
	return slices.ContainsFunc(m.Ports, func(p keeper.Port) bool { return slices.Contains(taps, p.Tap) })
}

func (m *mender) tellLost(vm string, l *loss) {
	if time.Since(l.since) < lostTimeout || l.told {
		return
	}
	l.told = true
	m.Network.Note(keeper.Note{
		Subject: "VM " + vm,
		Text:    fmt.Sprintf("another program deleted a tap of VM %s, which cannot be made again", vm),
		Remedy:  "restart the VM to connect it",
	})
}

// untilLost is the time until a tap's loss is to be told, 0 if none is.
func (m *mender) untilLost() time.Duration {
	var next time.Duration
	for l := range maps.Values(m.lost) {
		if left := lostTimeout - time.Since(l.since); !l.told && (next == 0 || left < next) {
			next = max(left, time.Millisecond)
		}
	}
	return next
}

func (m *mender) skips(s step.Step) bool { return m.yielded[s.String()] }

// tellMended says in one line what was put right, and gives up what was put right
// too often.
func (m *mender) tellMended(mended []step.Step) {
	var words, accepts []string
	for _, s := range mended {
		command := s.String()
		first := strings.SplitN(command, "\n", 2)[0]
		if step.IsAccept(s) {
			accepts = append(accepts, first)
		} else {
			words = append(words, first)
		}
		if limit := roundLimit(s); m.round(command, limit) {
			m.Network.Note(m.about(fmt.Sprintf("another program keeps undoing %q: given up after %d rounds", first, limit),
				"find and stop it, then restart the VMs of network "+m.Place.Name))
		}
	}
	if len(accepts) > 0 {
		m.Network.Note(m.about(fmt.Sprintf("another program's rules drop packets of network %s; let pass: %s", m.Place.Name, strings.Join(accepts, "; ")), ""))
	}
	if len(words) > 0 {
		m.Network.Note(m.about(fmt.Sprintf("another program changed network %s; done again: %s", m.Place.Name, strings.Join(words, "; ")), ""))
	}
}

// tellFailed tells of each failure once.
func (m *mender) tellFailed(err error) {
	if err == nil || m.yielded[err.Error()] {
		return
	}
	m.yielded[err.Error()] = true
	m.Network.Note(m.about(fmt.Sprintf("another program changed network %s, which cannot be put right: %v", m.Place.Name, err), ""))
}
