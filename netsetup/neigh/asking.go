package neigh

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/packet"
)

// asking is the state of Ask.
type asking struct {
	link    Link
	queries []Query
	replies []Place // each once
}

// exchange asks and listens until all queries have replies.
func (a *asking) exchange(ctx context.Context, in packet.Reader, send func(frame []byte) error, every time.Duration) error {
	if len(a.open()) == 0 {
		return nil
	}
	ask := func() error {
		for _, q := range a.open() {
			if err := unlessDown(send(q.frame())); err != nil {
				return err
			}
		}
		return nil
	}
	return packet.Exchange(ctx, in, every, ask, a.receive)
}

// open returns the queries without a reply.
func (a *asking) open() []Query {
	return slices.DeleteFunc(slices.Clone(a.queries), func(q Query) bool {
		return slices.ContainsFunc(a.replies, q.met)
	})
}

// met reports whether the place is the one that the query asks for.
func (q Query) met(p Place) bool {
	return p.Addr == q.Target && (q.Want == nil || slices.Equal(p.MAC, q.Want))
}

// receive notes the reply in a frame and reports whether it is the last one wanted.
func (a *asking) receive(frame []byte, out bool) bool {
	addr, mac, ok := packet.Neighbour(frame)
	if !ok || out && a.link.Send == a.link.Listen { // a bridge sends replies by the port that listens
		return false
	}
	p := Place{slices.Clone(mac), addr}
	known := slices.ContainsFunc(a.replies, func(r Place) bool { return r.Addr == p.Addr && slices.Equal(r.MAC, p.MAC) })
	if known || !slices.ContainsFunc(a.queries, func(q Query) bool { return q.addressed(frame, p) }) {
		return false
	}
	a.replies = append(a.replies, p)
	return len(a.open()) == 0
}

// addressed reports whether a frame that names the place is another host's reply to
// the query. An IPv6 query without a sender's address gets its reply by multicast
// (RFC 4861, 7.2.4).
func (q Query) addressed(frame []byte, p Place) bool {
	toSender := slices.Equal(frame[:6], []byte(q.From.MAC)) || q.Target.Is6() && frame[0]&1 != 0
	return p.Addr == q.Target && toSender && !slices.Equal(p.MAC, q.From.MAC)
}

func (q Query) frame() []byte {
	if q.Target.Is4() {
		return packet.ARPRequest(q.From.MAC, q.From.Addr, q.Target)
	}
	source := q.From.Addr
	if !source.IsValid() {
		source = netip.IPv6Unspecified()
	}
	return packet.NeighbourSolicitation(q.From.MAC, source, q.Target)
}

func announcements(list []Place) [][]byte {
	var frames [][]byte
	for _, p := range list {
		frame := packet.UnsolicitedAdvertisement
		if p.Addr.Is4() {
			frame = packet.GratuitousARP
		}
		frames = append(frames, frame(p.MAC, p.Addr))
	}
	return frames
}
