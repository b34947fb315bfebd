package ra

import (
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Advertiser sends a network's advertisements. Its methods may be called concurrently.
type Advertiser struct {
	c    Config
	send func(frame []byte) error

	mu       sync.Mutex // guards what follows
	kind     kind
	begun    int       // advertisements of the first ones sent
	sent     time.Time // the last one for all
	next     time.Time // when the next one for all is due
	counted  time.Time // begin of answered
	answered int
	woken    chan struct{}
}

// New returns an advertiser that sends frames by the function. router says that the host has a
// way to the Internet over IPv6.
func New(c Config, router bool, send func(frame []byte) error) *Advertiser {
	a := &Advertiser{c: c, send: send, woken: make(chan struct{}, 1)}
	a.kind = kindOf(router)
	return a
}

func kindOf(isRouter bool) kind {
	if isRouter {
		return router
	}
	return noRouter
}

// Run sends advertisements to all guests when they are due, until done is closed or the network ends.
func (a *Advertiser) Run(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-a.woken:
		case <-timer.C:
		}
		next, ended := a.due(time.Now())
		if ended {
			return
		}
		timer.Reset(time.Until(next))
	}
}

// due sends the advertisement that is due by now, if one is, and returns when the next one is,
// or that none follows.
func (a *Advertiser) due(now time.Time) (next time.Time, ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kind == last || now.Before(a.next) {
		return a.next, a.kind == last
	}
	a.toAll()
	a.sent, a.next = now, now.Add(pause)
	if a.begun++; a.begun < first {
		a.next = now.Add(firstPause)
	}
	return a.next, false
}

// toAll sends an advertisement to all guests. mu is held. One that the link does not take is
// lost as any packet may be: guests ask, and another one follows.
func (a *Advertiser) toAll() {
	a.send(a.c.frame(a.kind, allNodes, packet.MulticastMAC(allNodes))) //nolint:errcheck // as said
}

// SetRouter says whether the host has a way to the Internet over IPv6, and tells all guests at
// once if that is new.
func (a *Advertiser) SetRouter(isRouter bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := kindOf(isRouter); a.kind != k && a.kind != last {
		a.kind, a.begun, a.next = k, 0, time.Time{}
		a.wake()
	}
}

// wake lets Run look again when to send. mu is held.
func (a *Advertiser) wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// End tells all guests that the network ends. Nothing is sent afterwards.
func (a *Advertiser) End() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kind != last {
		a.kind = last
		a.wake()
		a.toAll()
	}
}

// Answer answers a guest's solicitation: to the guest alone and at once, because no other router
// answers on the link whose message could collide with this one. Guests without an address, and
// those beyond mostAnswered, get an advertisement for all, of which betweenAll bounds the rate.
func (a *Advertiser) Answer(s Solicitation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.kind == last {
		return
	}
	if now.Sub(a.counted) > answersEach {
		a.counted, a.answered = now, 0
	}
	if a.answered++; s.From.IsUnspecified() || a.answered > mostAnswered {
		if soon := later(now, a.sent.Add(betweenAll)); soon.Before(a.next) {
			a.next = soon
			a.wake()
		}
		return
	}
	a.send(a.c.frame(a.kind, s.From, s.MAC)) //nolint:errcheck // as in toAll
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
