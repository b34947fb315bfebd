package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// silentPoll is how often is looked at the filters that tell nobody of a change:
// iptables-legacy and br_netfilter.
const silentPoll = 500 * time.Millisecond

// pollSilent pokes for a change of them.
func (g *guardian) pollSilent() {
	tick := time.NewTicker(silentPoll)
	defer tick.Stop()
	for last := read.Silent(); ; {
		select {
		case <-g.quit:
			return
		case <-tick.C:
		}
		if now := read.Silent(); now != last {
			last = now
			poke(g.changed)
		}
	}
}

// letPass inserts a plan's accepts into others' chains. A network without them still
// is one: what fails is told, not undone.
func (k *keeper) letPass(accepts step.List, done func(step.Step)) {
	for _, s := range accepts {
		if err := step.Apply(context.TODO(), k.host.Kernel(), []step.Step{s}, done); err != nil {
			k.noteOnce(fmt.Sprintf("network %s: %v", k.network, err))
		}
	}
}

// noteOnce tells the users something that stays so.
func (k *keeper) noteOnce(text string) {
	k.noted.Lock()
	defer k.noted.Unlock()
	if !k.told[text] && !slices.Contains(k.journal.Plan.Notes, text) { // which every VM is told
		k.told[text] = true
		k.note(text)
	}
}

// refreshAccepts decides anew what must be accepted, since another firewall was
// started or has read its settings again. It returns the accepts to hold, those
// that are new already in the journal. It runs by whileRunning.
func (k *keeper) refreshAccepts() (step.List, error) {
	filters, err := k.host.ReadFilters(context.TODO())
	if err != nil {
		return nil, err
	}
	accepts, notes := k.journal.Plan.LetPass(filters, k.zoned.Load())
	for _, note := range notes {
		k.noteOnce(note)
	}
	known := slices.Concat(k.journal.Plan.Steps, k.journal.Added)
	fresh := slices.DeleteFunc(slices.Clone(accepts), func(s step.Step) bool { return slices.Contains(known, s) })
	if len(fresh) == 0 {
		return accepts, nil
	}
	k.journal.Added = append(k.journal.Added, fresh...)
	return accepts, k.journal.Write(k.paths.journal())
}
