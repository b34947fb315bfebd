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
	// answerTimeout bounds the wait for an answer; servers take milliseconds.
	answerTimeout = 4 * time.Second
	// checkInterval bounds a sleep: a timer stands still while the host is suspended, a
	// lease does not.
	checkInterval = 5 * time.Second
	// minPause and maxPause bound the time between two requests. RFC 2131 wants 60 s at
	// least, and short leases leave no time for that.
	minPause, maxPause = 2 * time.Second, time.Minute
)

// Config is what a Renewer works on.
type Config struct {
	Client managers.Client
	Port   string // the NIC; changed from within Change only
	Bridge string

	// Change runs a function that changes the host, when the caller permits it, or not
	// at all.
	Change func(context.Context, func() error) error
	// Move moves addresses and routes from the port to the bridge. It runs within Change.
	Move func(context.Context) error
	Warn func(string) // gets what the user should know
	Log  *slog.Logger
}

// Renewer keeps the host's lease. Run may be called once, Soon at any time, and Follow
// from within Config.Change only.
type Renewer struct {
	Config
	soon chan struct{}

	// What tests replace.
	clock  func() time.Duration                                 // see uptime
	ask    func(ctx context.Context, toAll bool) (Terms, error) // see askServer
	extend func(lasts time.Duration) error                      // see setLifetime

	terms  Terms
	began  time.Duration // when the terms were asked for, by the clock; 0 is never
	warned bool
}

// New returns a renewer, which does nothing yet.
func New(c Config) *Renewer {
	r := &Renewer{Config: c, soon: make(chan struct{}, 1), clock: uptime}
	r.ask = r.askServer
	r.extend = func(lasts time.Duration) error { return setLifetime(r.Bridge, r.Client.Lease.Address, lasts) }
	return r
}

// String names the renewer's task.
func (r *Renewer) String() string { return "lease" }

// Run renews the lease until ctx ends, and returns nil then. It begins at once, because
// no client tells how long its lease still lasts. It only waits if the client renews the
// lease by itself.
func (r *Renewer) Run(ctx context.Context) error {
	if !r.Client.GoesDeaf() {
		<-ctx.Done()
		return nil
	}
	for due := r.clock(); ; {
		toAll := false
		select {
		case <-ctx.Done():
			return nil
		case <-r.soon:
			toAll, due = true, 0
		case <-time.After(min(max(due-r.clock(), 0), checkInterval)):
		}
		if now := r.clock(); now >= due {
			err := r.renew(ctx, toAll || r.began != 0 && now-r.began >= r.terms.Rebind)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end of ctx is no failure
			}
			due = r.next(r.clock(), err)
			r.report(r.clock(), err)
		}
	}
}

// Soon makes Run ask all servers at once. It is for a cable that was plugged in: it may
// lead to another network, and that network's server refuses.
func (r *Renewer) Soon() {
	select {
	case r.soon <- struct{}{}:
	default:
	}
}

// uptime returns the time since the boot, suspended or not (CLOCK_BOOTTIME).
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("lease: read CLOCK_BOOTTIME: %v", err)) // since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

// renew asks for new terms and gives the bridge's address the time that they grant.
func (r *Renewer) renew(ctx context.Context, toAll bool) error {
	asked := r.clock()
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	terms, err := r.ask(limited, toAll)
	if err != nil {
		return err
	}
	r.terms, r.began, r.warned = terms, asked, false
	r.Client.Lease.Server = terms.Server
	return r.Change(ctx, func() error { return r.extend(terms.Lasts - (r.clock() - asked)) })
}

// askServer asks by the bridge.
func (r *Renewer) askServer(ctx context.Context, toAll bool) (Terms, error) {
	index, err := indexOf(r.Bridge)
	if err != nil {
		return Terms{}, err
	}
	return Renew(ctx, index, r.Client.Lease, toAll)
}

// next returns when to ask again: at T1 after an answer; else after half of the time
// left until T2, or from T2 on until the lease's end (RFC 2131, 4.4.5).
func (r *Renewer) next(now time.Duration, err error) time.Duration {
	if err == nil {
		return r.began + r.terms.Renew
	}
	if r.began == 0 {
		return now + minPause
	}
	left := r.began + r.terms.Rebind - now
	if left <= 0 {
		left = r.began + r.terms.Lasts - now
	}
	return now + min(max(left/2, minPause), maxPause)
}

// report logs an error, and warns once of a lease that the host is about to lose.
func (r *Renewer) report(now time.Duration, err error) {
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
