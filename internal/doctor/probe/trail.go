package probe

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// hookAt is a hook of the bridge family or of IP's.
type hookAt struct {
	bridge bool
	hook   nft.Hook
}

// sight is one thing nftables told of a packet.
type sight struct {
	nft.TraceEvent
	at   hookAt
	drop bool
}

// way is what became of the packets of a flow: of those the guest sent, and of the
// answers to them. Both in the order they were told.
type way struct{ out, back []sight }

// A flow's trace is complete when it has not grown for traceSettle; traceTime bounds
// the wait for its first word. A busy host schedules the listener late.
const (
	traceSettle = 20 * time.Millisecond
	traceTime   = 400 * time.Millisecond
)

// wayOf picks a flow's packets out of the trace.
func (r *run) wayOf(ctx context.Context, f Flow) way {
	before := 0
	return r.wayUntil(ctx, f, func(w way) bool {
		told := len(w.out) + len(w.back)
		done := told > 0 && told == before
		before = told
		return done
	})
}

// wayUntil waits for the trace to tell what is looked for.
func (r *run) wayUntil(ctx context.Context, f Flow, done func(way) bool) way {
	if r.tracer == nil {
		return way{}
	}
	for end := time.Now().Add(traceTime); ; {
		w := r.wayNow(f)
		if done(w) || time.Now().After(end) || ctx.Err() != nil {
			return w
		}
		select {
		case <-ctx.Done():
		case <-time.After(traceSettle):
		}
	}
}

func (r *run) wayNow(f Flow) way {
	events, _ := r.tracer.Events()
	hooks, err := nft.BaseChains()
	if err != nil {
		return way{}
	}
	var w way
	for _, e := range events {
		hook := hooks[nft.ChainName{Family: e.Family, Table: e.Table, Chain: e.Chain}]
		s := sight{TraceEvent: e, at: hookAt{e.Family == nft.Bridge, hook}, drop: e.Verdict == nft.Dropped}
		if hook == "" {
			s.at = inferred(e)
		}
		switch got, ok := flowIn(e); {
		case !ok:
		case sameWay(got, f):
			w.out = append(w.out, s)
		case answers(got, f):
			w.back = append(w.back, s)
		}
	}
	return w
}

// sameWay reports whether a packet is one of the flow's: its source may have been
// translated already.
func sameWay(got, f Flow) bool {
	return got.Dst == f.Dst && got.Protocol == f.Protocol && got.ID == f.ID && got.Port == f.Port
}

// answers reports whether a packet can be the answer to a flow. Its destination may
// be the host's, before the translation back.
func answers(got, f Flow) bool {
	switch {
	case f.Dst == limitedBroadcast: // DHCP
		return got.Protocol == f.Protocol && got.ID == f.Port && got.Port == f.ID
	case got.Src != f.Dst || got.Protocol != f.Protocol:
		return false
	case f.Protocol == protoICMP:
		return got.ID == f.ID
	case f.Protocol == protoARP:
		return got.Dst == f.Src
	}
	return got.ID == f.Port && (got.Port == f.ID || got.Dst != f.Src)
}

// flowIn reads the flow out of the headers that a trace quotes.
func flowIn(e nft.TraceEvent) (Flow, bool) {
	b := append(append([]byte{}, e.Network...), e.Transport...)
	if p, ok := packet.ParseIPHeader(b); ok {
		return flowOf(p), true
	}
	if len(b) >= 28 && slices.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return Flow{Src: netip.AddrFrom4([4]byte(b[14:18])), Dst: netip.AddrFrom4([4]byte(b[24:28])), Protocol: protoARP}, true
	}
	return Flow{}, false
}

// inferred is the hook of a chain that only is jumped to, from the links known there.
func inferred(e nft.TraceEvent) hookAt {
	p := hookAt{bridge: e.Family == nft.Bridge, hook: nft.Forward}
	switch {
	case e.Out == 0:
		p.hook = nft.Input
	case e.In == 0:
		p.hook = nft.Output
	}
	return p
}

// reached reports whether a packet got to a place.
func reached(list []sight, p hookAt) bool {
	return slices.ContainsFunc(list, func(s sight) bool { return s.at == p })
}

// dropped is the first drop of a packet, if one was told. A DHCP server of qnet's
// hears its packet socket, which comes before IP's input; there qnet drops the
// packet itself, so that no other server answers too.
func dropped(list []sight, f Flow) (sight, bool) {
	i := slices.IndexFunc(list, func(s sight) bool { return s.drop && (f.Dst != limitedBroadcast || s.at != toHost) })
	if i < 0 {
		return sight{}, false
	}
	return list[i], true
}
