package upkeep

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookShare is how many times longer the pauses are than what the looks before them cost:
	// a task's looks take 2 % of a CPU, however often the host changes, and however large it is.
	lookShare = 50
	// lookCredit is the CPU time that looks may cost before they pause. Changes seldom come
	// alone: a VPN makes a link, then addresses, then routes.
	lookCredit = 300 * time.Millisecond
	// maxPause bounds a pause. A look at a million routes costs 0.2 s.
	maxPause = 15 * time.Second
)

// pace bounds what a task's looks at the host cost.
type pace struct{ paid time.Time } // when the pauses for all looks so far are over

// after returns how long to pause after a look that cost so much CPU time.
func (p *pace) after(cost time.Duration) time.Duration {
	now := time.Now()
	owed := max(0, p.paid.Sub(now)) + lookShare*cost
	owed = min(owed, lookShare*lookCredit+maxPause)
	p.paid = now.Add(owed)
	return max(0, owed-lookShare*lookCredit)
}

// measure runs f and returns the CPU time that the process used meanwhile.
func measure(f func()) time.Duration {
	begin := usedCPU()
	f()
	return usedCPU() - begin
}

func usedCPU() time.Duration {
	var used unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used) //nolint:errcheck // it has no way to fail
	return time.Duration(used.Nano())
}
