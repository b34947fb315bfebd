package server

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// member is a VM registered. Its fields are guarded as server.vms is.
type member struct {
	conn     *net.UnixConn
	versions keeper.Versions // of its supervisor
	ports    []keeper.Port
	steps    step.List
	away     bool // of an adopted network, and not back yet

	outbox  []keeper.Reply // news to send, in order; guarded by server.mu
	changed bool           // ports are to be sent; guarded by server.mu
	wake    chan struct{}  // wakes the writer

	watches []*guestwatch.Port
	cancel  context.CancelFunc
	owned   sync.WaitGroup // the writer and the watchers
}

func newMember(c *net.UnixConn, v keeper.Versions) *member {
	return &member{conn: c, versions: v, wake: make(chan struct{}, 1), cancel: func() {}}
}

// newsTimeout bounds the wait for a supervisor that does not read. It gets the newer
// state next time.
const newsTimeout = time.Second

// end ends the watchers of the member's taps and its writer, and joins them. The
// connection stays open for the answer. It may be called again. server.mu is not held.
func (m *member) end() {
	m.cancel()
	for _, w := range m.watches {
		w.Close() //nolint:errcheck // nothing follows from it
	}
	if m.conn == nil {
		return
	}
	m.conn.SetWriteDeadline(time.Unix(1, 0)) // of a supervisor that does not read
	m.owned.Wait()
	m.conn.SetWriteDeadline(time.Time{})
}

// watch starts the member's watchers, which follow what the guest does on its taps.
// server.changes is held.
func (s *server) watch(ctx context.Context, vm string, m *member) {
	for i := range m.ports {
		l, ok, err := s.host.Link(ctx, m.ports[i].Tap)
		if err != nil || !ok {
			continue
		}
		w, err := guestwatch.Open(l.Index, m.ports[i].MAC, l.Kind == "macvtap")
		if err != nil {
			s.log.Warn("watch tap", "vm", vm, "error", err)
			continue
		}
		if s.journal.Plan.Prefix6.IsValid() {
			w.Claimed = s.claimer(vm, m.ports[i].Tap)
		}
		m.watches = append(m.watches, w)
		s.tellSeen(&m.ports[i])
		seen := m.ports[i].Seen
		m.owned.Go(func() { w.Run(seen, func(now guestwatch.State) { s.saw(m, i, now) }) })
	}
}

// startWriter starts the member's writer. It is called once the answer to the join is
// sent, because no news may overtake that. server.changes is held.
func (s *server) startWriter(ctx context.Context, m *member) {
	ctx, m.cancel = context.WithCancel(ctx) // member.end cancels it
	m.owned.Go(func() { s.write(ctx, m) })
}

// saw takes over what a watcher saw of the guest.
func (s *server) saw(m *member, port int, now guestwatch.State) {
	s.mu.Lock()
	m.ports[port].Seen = now
	m.changed = true
	s.mu.Unlock()
	m.poke()
	s.tellSeen(&m.ports[port])
}

func (m *member) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// outboxLimit bounds the news that wait for one supervisor; the oldest are dropped.
const outboxLimit = 64

// post puts news into the member's outbox. server.mu is held.
func (m *member) post(news keeper.Reply) {
	if m.away {
		return
	}
	if m.outbox = append(m.outbox, news); len(m.outbox) > outboxLimit {
		m.outbox = m.outbox[1:]
	}
	m.poke()
}

// write is the only writer of news to the member's supervisor.
func (s *server) write(ctx context.Context, m *member) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		s.mu.Lock()
		news := m.outbox
		m.outbox = nil
		if m.changed {
			news = append(news, keeper.Reply{Update: slices.Clone(m.ports)})
			m.changed = false
		}
		s.mu.Unlock()
		for _, n := range news {
			if ctx.Err() != nil {
				return
			}
			m.conn.SetWriteDeadline(time.Now().Add(newsTimeout))
			if err := keeper.Send(m.conn, n.For(m.versions)); err != nil {
				s.log.Warn("tell supervisor", "error", err)
			}
		}
	}
}

// noteLimit bounds the notes that are kept for `qnet net`.
const noteLimit = 8

// Note tells all supervisors something that their users should know.
func (s *server) Note(n keeper.Note) {
	s.log.Warn(n.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes = append(s.notes, n); len(s.notes) > noteLimit {
		s.notes = s.notes[1:]
	}
	for _, m := range s.vms {
		m.post(keeper.Reply{Told: []keeper.Note{n}})
	}
}

// NoteOnce tells something that stays so: each text once, and none that the plan's
// notes tell each VM.
func (s *server) NoteOnce(n keeper.Note) {
	s.mu.Lock()
	known := s.told[n.String()] || slices.Contains(s.planNotes, n.String())
	s.told[n.String()] = true
	s.mu.Unlock()
	if !known {
		s.Note(n)
	}
}

func (s *server) about(text string) keeper.Note {
	return keeper.Note{Subject: "network " + s.place.Name, Text: text}
}

// Replug makes every guest see its cable pulled and plugged, so that it asks for its
// lease again.
func (s *server) Replug() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.vms {
		var nics []int
		for _, p := range m.ports {
			nics = append(nics, p.NIC)
		}
		if len(nics) > 0 {
			m.post(keeper.Reply{Replug: nics})
		}
	}
}

// PortsRenamed gives the members the steps of their ports that the journal has by now. It is
// called within WhileRunning.
func (s *server) PortsRenamed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for vm, m := range s.vms {
		if steps, ok := s.journal.Ports[vm]; ok {
			m.steps = steps
		}
	}
}

// Members are the VMs registered.
func (s *server) Members() []upkeep.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []upkeep.Member
	for vm, m := range s.vms {
		list = append(list, upkeep.Member{VM: vm, Ports: slices.Clone(m.ports), Steps: m.steps, Away: m.away})
	}
	return list
}
