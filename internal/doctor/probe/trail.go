package probe

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/nft/trace"
)

// hookAt is a hook of the bridge family or of IP's.
type hookAt struct {
	bridge bool
	hook   nft.Hook
}

// sight is one event of a trace: a rule or chain that has seen a packet.
type sight struct {
	trace.Event
	at   hookAt
	drop bool
}

// trail holds what a trace says about the packets of a flow: those that the guest sent,
// and the replies to them, in the order of the events.
type trail struct{ out, back []sight }

// The trail of a flow is complete when it has not grown for traceSettle. traceTime bounds
// the wait for its first event: a busy host schedules the listener late.
const (
	traceSettle = 20 * time.Millisecond
	traceTime   = 400 * time.Millisecond
)

// trailOf picks the packets of a flow out of the trace.
func (r *run) trailOf(ctx context.Context, f guest.Flow) trail {
	before := 0
	return r.trailUntil(ctx, f, func(t trail) bool {
		events := len(t.out) + len(t.back)
		done := events > 0 && events == before
		before = events
		return done
	})
}

// trailUntil waits until the trail of a flow is done, or traceTime is over.
func (r *run) trailUntil(ctx context.Context, f guest.Flow, done func(trail) bool) trail {
	if r.tracer == nil {
		return trail{}
	}
	for end := time.Now().Add(traceTime); ; {
		t := r.trailNow(f)
		if done(t) || time.Now().After(end) || ctx.Err() != nil {
			return t
		}
		select {
		case <-ctx.Done():
		case <-time.After(traceSettle):
		}
	}
}

func (r *run) trailNow(f guest.Flow) trail {
	events, _ := r.tracer.Events()
	hooks, err := trace.BaseChains()
	if err != nil {
		return trail{}
	}
	var t trail
	for _, e := range events {
		hook := hooks[trace.ChainName{Family: e.Family, Table: e.Table, Chain: e.Chain}]
		s := sight{Event: e, at: hookAt{e.Family == nft.Bridge, hook}, drop: e.Verdict == trace.Dropped}
		if hook == "" {
			s.at = inferred(e)
		}
		switch got, ok := flowIn(e); {
		case !ok:
		case isRequest(got, f):
			t.out = append(t.out, s)
		case isReply(got, f):
			t.back = append(t.back, s)
		}
	}
	return t
}

// isRequest reports whether a packet is one that the guest sent in a flow. Its source
// may have been translated already.
func isRequest(got, f guest.Flow) bool {
	return got.Dst == f.Dst && got.Protocol == f.Protocol && got.ID == f.ID && got.Port == f.Port
}

// isReply reports whether a packet may be a reply in a flow. Its destination is an address
// of the host until it is translated back.
func isReply(got, f guest.Flow) bool {
	switch {
	case f.Dst == guest.LimitedBroadcast: // DHCP
		return got.Protocol == f.Protocol && got.ID == f.Port && got.Port == f.ID
	case got.Src != f.Dst || got.Protocol != f.Protocol:
		return false
	case f.Protocol == guest.ICMP:
		return got.ID == f.ID
	case f.Protocol == guest.ARP:
		return got.Dst == f.Src
	}
	return got.ID == f.Port && (got.Port == f.ID || got.Dst != f.Src)
}

// flowIn reads the flow of a packet from the headers in an event.
func flowIn(e trace.Event) (guest.Flow, bool) {
	b := append(append([]byte{}, e.Network...), e.Transport...)
	if p, ok := packet.ParseIPHeader(b); ok {
		return guest.FlowOf(p), true
	}
	if len(b) >= 28 && slices.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return guest.Flow{Src: netip.AddrFrom4([4]byte(b[14:18])), Dst: netip.AddrFrom4([4]byte(b[24:28])), Protocol: guest.ARP}, true
	}
	return guest.Flow{}, false
}

// inferred is the hook of a chain that other chains jump to, guessed from the links that
// the event names.
func inferred(e trace.Event) hookAt {
	p := hookAt{bridge: e.Family == nft.Bridge, hook: nft.Forward}
	switch {
	case e.Out == 0:
		p.hook = nft.Input
	case e.In == 0:
		p.hook = nft.Output
	}
	return p
}

// reached reports whether a packet got to a hook.
func reached(list []sight, p hookAt) bool {
	return slices.ContainsFunc(list, func(s sight) bool { return s.at == p })
}

// dropped is the first drop of a packet of the flow. The drop of a DHCP message at the
// input of IP does not count: qnet's server has read it from a packet socket before, and
// qnet itself drops it so that no other server replies, too.
func dropped(list []sight, f guest.Flow) (sight, bool) {
	i := slices.IndexFunc(list, func(s sight) bool { return s.drop && (f.Dst != guest.LimitedBroadcast || s.at != toHost) })
	if i < 0 {
		return sight{}, false
	}
	return list[i], true
}
