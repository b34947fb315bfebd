package upkeep

import (
	"time"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// stepRoundLimit is how often the mender does a step again before it lets another
	// program have its way. It counts the rounds of fightTimeout.
	stepRoundLimit = 5
	fightTimeout   = time.Minute
	// acceptRoundLimit is the same for accepts in others' chains: a firewall that is
	// reloaded a few times in a row is no fight.
	acceptRoundLimit = 30
)

// fight counts how often another program undid one of our steps.
type fight struct {
	rounds int
	began  time.Time
}

// next counts a round and returns how many there were within fightTimeout.
func (f *fight) next() int {
	if time.Since(f.began) > fightTimeout {
		*f = fight{began: time.Now()}
	}
	f.rounds++
	return f.rounds
}

// round counts a fight's round and reports whether it was the last.
func (m *mender) round(command string, limit int) bool {
	if m.fights[command] == nil {
		m.fights[command] = &fight{}
	}
	m.yielded[command] = m.fights[command].next() >= limit
	return m.yielded[command]
}

func roundLimit(s step.Step) int {
	if apply.LetsPass(s) {
		return acceptRoundLimit
	}
	return stepRoundLimit
}
