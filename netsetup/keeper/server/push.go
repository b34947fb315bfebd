package keeper

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// member is a VM registered.
type member struct {
	conn    *net.UnixConn
	ports   []PortInfo
	steps   step.List
	watches []*guestwatch.Port
	away    bool          // of an adopted network, and not back yet
	lost    time.Time     // since when a tap of it is gone, zero if none is
	told    bool          // that it is
	changed chan struct{} // pokes push
	quit    chan struct{}
	once    sync.Once
}

func newMember(conn *net.UnixConn) *member {
	return &member{conn: conn, changed: make(chan struct{}, 1), quit: make(chan struct{})}
}

// close ends the watching of its taps, and push.
func (m *member) close() {
	m.once.Do(func() { close(m.quit) })
	for _, w := range m.watches {
		w.Close() //nolint:errcheck // nothing follows from it
	}
}

// watch follows what the VM's guest does on its taps. The lock is held.
func (k *keeper) watch(vm string, m *member) {
	for i := range m.ports {
		l, ok, err := k.host.Link(context.TODO(), m.ports[i].Tap)
		if err != nil || !ok {
			continue
		}
		w, err := guestwatch.Open(l.Index, m.ports[i].MAC, l.Kind == "macvtap")
		if err != nil {
			k.log.Warn("watch tap", "vm", vm, "error", err)
			continue
		}
		m.watches = append(m.watches, w)
		go w.Run(m.ports[i].Seen, func(s guestwatch.State) {
			k.mu.Lock()
			m.ports[i].Seen = s
			k.mu.Unlock()
			poke(m.changed)
		})
	}
}

// pushTimeout bounds how long a supervisor that does not read is waited for; it
// gets the newer state next time.
const pushTimeout = time.Second

// push sends the VM's ports to its supervisor when they change.
func (k *keeper) push(m *member) {
	for {
		select {
		case <-m.quit:
			return
		case <-m.changed:
		}
		k.mu.Lock()
		ports := slices.Clone(m.ports)
		k.mu.Unlock()
		k.tell(m, reply{Update: ports})
	}
}

func (k *keeper) tell(m *member, r reply) {
	m.conn.SetWriteDeadline(time.Now().Add(pushTimeout))
	if err := send(m.conn, r); err != nil {
		k.log.Warn("tell supervisor", "error", err)
	}
	m.conn.SetWriteDeadline(time.Time{})
}

// maxNotes bounds what is kept for `qnet net`.
const maxNotes = 8

// note tells all supervisors something their users should know. It may be called
// with or without the lock.
func (k *keeper) note(text string) {
	k.log.Warn(text)
	go func() {
		k.mu.Lock()
		if k.texts = append(k.texts, text); len(k.texts) > maxNotes {
			k.texts = k.texts[1:]
		}
		members := make([]*member, 0, len(k.vms))
		for _, m := range k.vms {
			if !m.away {
				members = append(members, m)
			}
		}
		k.mu.Unlock()
		for _, m := range members {
			k.tell(m, reply{Notes: []string{text}})
		}
	}()
}
