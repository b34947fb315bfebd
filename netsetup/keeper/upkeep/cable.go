package keeper

import "time"

const (
	// yieldTime is how long a cable may be pulled before the host's routes by it give
	// way to others.
	yieldTime = 5 * time.Second
	// awayTime is how long it must have been pulled for the guest to be told: it may
	// be in another socket then.
	awayTime = time.Second
	// sleepTime is how much the clocks must differ more for the host to have slept.
	sleepTime = 2 * time.Second
)

// clock is the time since boot, with and without what the host slept
// (CLOCK_BOOTTIME and CLOCK_MONOTONIC).
type clock struct{ boot, awake time.Duration }

// cable is what is known of the uplink's cable, and of the host's sleep. It is told
// what there is to see and says what is to be done.
type cable struct {
	last   clock
	pulled bool
	since  time.Duration // when it was pulled, awake
	yields bool          // the host's routes have given way
}

// doing is what is to be done.
type doing struct {
	yield   bool          // the host's routes by the cable are to give way
	restore bool          // or to be as they were
	check   bool          // does the gateway answer? then tell the LAN where the host is
	replug  bool          // the guests may be on another LAN
	slept   bool          // all may have changed
	again   time.Duration // when to look again, 0 if not before something happens
}

// look sees whether the uplink has a carrier.
func (c *cable) look(carrier bool, now clock) (d doing) {
	asleep := (now.boot - now.awake) - (c.last.boot - c.last.awake)
	if c.last != (clock{}) && asleep >= sleepTime {
		d.slept = true
	}
	c.last = now
	switch {
	case !carrier && !c.pulled:
		c.pulled, c.since = true, now.awake
		d.again = yieldTime
	case !carrier && !c.yields:
		left := c.since + yieldTime - now.awake
		d.yield = left <= 0
		c.yields = d.yield
		d.again = max(left, 0)
	case carrier && c.pulled:
		d.restore, d.check, d.replug = c.yields, true, now.awake-c.since >= awayTime
		c.pulled, c.yields = false, false
	}
	if d.slept && carrier {
		d.check, d.replug = true, true
	}
	return d
}
