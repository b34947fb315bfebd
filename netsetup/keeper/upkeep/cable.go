package upkeep

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// yieldTimeout is how long a cable may be pulled before the host's routes by it give
	// way to others.
	yieldTimeout = 5 * time.Second
	// awayTimeout is how long a cable must have been pulled for the guests to see that:
	// it may be in another socket then.
	awayTimeout = time.Second
	// sleepLimit is how much the difference of the clocks must grow for the host to have
	// slept.
	sleepLimit = 2 * time.Second
)

// Clock is the time since boot, with and without what the host slept
// (CLOCK_BOOTTIME and CLOCK_MONOTONIC).
type Clock struct{ Boot, Awake time.Duration }

// KernelClocks reads the clocks.
func KernelClocks() Clock {
	var boot, awake unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)   //nolint:errcheck // it has no way to fail
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) //nolint:errcheck // as above
	return Clock{time.Duration(boot.Nano()), time.Duration(awake.Nano())}
}

// cable is the state of the uplink's cable, and of the host's sleep. Its look is
// pure: it gets what there is to see and returns what to do.
type cable struct {
	last   Clock
	pulled bool
	since  time.Duration // when it was pulled, awake
	yields bool          // the host's routes have given way
}

// doing is what to do.
type doing struct {
	yield   bool          // make the host's routes by the cable give way
	restore bool          // make them as they were
	check   bool          // ask whether the gateway answers; then tell the LAN where the host is
	replug  bool          // the guests may be on another LAN
	slept   bool          // all may have changed
	again   time.Duration // when to look again, 0 for at the next event
}

// look gets whether the uplink has a carrier.
func (c *cable) look(carrier bool, now Clock) (d doing) {
	asleep := (now.Boot - now.Awake) - (c.last.Boot - c.last.Awake)
	if c.last != (Clock{}) && asleep >= sleepLimit {
		d.slept = true
	}
	c.last = now
	switch {
	case !carrier && !c.pulled:
		c.pulled, c.since = true, now.Awake
		d.again = yieldTimeout
	case !carrier && !c.yields:
		left := c.since + yieldTimeout - now.Awake
		d.yield = left <= 0
		c.yields = d.yield
		d.again = max(left, 0)
	case carrier && c.pulled:
		d.restore, d.check, d.replug = c.yields, true, now.Awake-c.since >= awayTimeout
		c.pulled, c.yields = false, false
	}
	if d.slept && carrier {
		d.check, d.replug = true, true
	}
	return d
}
