package hostlease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

const (
	// answerTime is how long an answer is waited for; servers take milliseconds.
	answerTime = 4 * time.Second
	// patrol bounds a sleep: a timer stands still while the host is suspended, a
	// lease does not.
	patrol = 5 * time.Second
	// leastPause is between two questions, RFC 2131 wants 60 s; short leases
	// leave no time for that.
	leastPause, mostPause = 2 * time.Second, time.Minute
)

// Config is what a Renewer works on.
type Config struct {
	Client managers.Client
	Port   string // the NIC
	Bridge string

	// Change runs what changes the host, at a time of the caller's choice, or not
	// at all.
	Change func(func() error) error
	// Move moves to the bridge what is on the port, addresses and routes. It runs
	// within Change.
	Move func() error
	Warn func(string) // gets what the user should know
	Log  *slog.Logger
}

// Renewer keeps the host's lease. Follow may be called at any time, within
// Config.Change, and Soon by anybody; Close ends it.
type Renewer struct {
	Config
	cancel context.CancelFunc
	soon   chan struct{}

	terms  Terms
	began  time.Duration // when the terms were asked for, by the clock of uptime; 0 is never
	warned bool
}

// Start starts to renew, at once: nobody tells how long the lease lasts by now.
func Start(c Config) *Renewer {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Renewer{Config: c, cancel: cancel, soon: make(chan struct{}, 1)}
	if c.Client.GoesDeaf() {
		go r.run(ctx)
	}
	return r
}

// Close stops renewing. A change that waits for its time in Config.Change may still
// come.
func (r *Renewer) Close() { r.cancel() }

// Soon has the lease renewed at once, by whichever server is there: the cable was
// plugged, maybe into another network, whose server refuses.
func (r *Renewer) Soon() {
	select {
	case r.soon <- struct{}{}:
	default:
	}
}

// uptime is the time since the boot, suspended or not: CLOCK_BOOTTIME.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("lease: read CLOCK_BOOTTIME: %v", err)) // since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

func (r *Renewer) run(ctx context.Context) {
	for at := uptime(); ; {
		wait, broadcast := min(max(at-uptime(), 0), patrol), false
		select {
		case <-ctx.Done():
			return
		case <-r.soon:
			broadcast, at = true, 0
		case <-time.After(wait):
		}
		if now := uptime(); now >= at {
			err := r.renew(ctx, broadcast || r.began != 0 && now-r.began >= r.terms.Rebind)
			if ctx.Err() != nil {
				return
			}
			at = r.next(uptime(), err)
			r.tell(uptime(), err)
		}
	}
}

// renew asks, any server or the lease's own, and gives the bridge's address the time
// that is granted.
func (r *Renewer) renew(ctx context.Context, broadcast bool) error {
	index, err := indexOf(r.Bridge)
	if err != nil {
		return err
	}
	asked := uptime()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	terms, err := Renew(ctx, index, r.Client.Lease, broadcast)
	if err != nil {
		return err
	}
	r.terms, r.began, r.warned = terms, asked, false
	r.Client.Lease.Server = terms.Server
	return r.Change(func() error { return setLifetime(r.Bridge, r.Client.Lease.Address, terms.Lasts-(uptime()-asked)) })
}

// next is when to ask again: at T1 after an answer, else after half of the time
// left until T2, or until the end (RFC 2131, 4.4.5).
func (r *Renewer) next(now time.Duration, err error) time.Duration {
	if err == nil {
		return r.began + r.terms.Renew
	}
	if r.began == 0 {
		return now + leastPause
	}
	left := r.began + r.terms.Rebind - now
	if left <= 0 {
		left = r.began + r.terms.Lasts - now
	}
	return now + min(max(left/2, leastPause), mostPause)
}

// tell warns once of a lease that is about to be lost.
func (r *Renewer) tell(now time.Duration, err error) {
	if err == nil {
		return
	}
	r.Log.Warn("renew lease", "error", err)
	late := r.began != 0 && now-r.began >= r.terms.Rebind
	if r.warned || !late && !errors.Is(err, ErrRefused) {
		return
	}
	r.warned = true
	r.Warn(fmt.Sprintf("the host's address %s cannot be renewed: %v; stop the VMs on %s, so that %s can look for another",
		r.Client.Lease.Address, err, r.Bridge, r.Client.Program))
}
