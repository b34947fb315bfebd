package qmp

import (
	"context"
	"sync"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

// queueLength is how many events a subscriber may lag behind.
const queueLength = 256

// queue is a bounded FIFO of events for one subscriber. Putting never blocks.
type queue struct {
	mu      sync.Mutex
	events  []goqmp.Event // guarded by mu
	closed  bool          // guarded by mu; no more events will come
	changed chan struct{} // of capacity 1: events or closed has changed
}

func newQueue() *queue {
	return &queue{changed: make(chan struct{}, 1)}
}

// put appends e and reports whether an older event had to go for it.
func (q *queue) put(e goqmp.Event) (dropped bool) {
	q.mu.Lock()
	if len(q.events) == queueLength {
		copy(q.events, q.events[1:])
		q.events = q.events[:queueLength-1]
		dropped = true
	}
	q.events = append(q.events, e)
	q.mu.Unlock()
	q.signal()
	return dropped
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// take returns the oldest event. Without one, more reports whether waiting
// for changed makes sense.
func (q *queue) take() (e goqmp.Event, ok, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return goqmp.Event{}, false, !q.closed
	}
	e = q.events[0]
	q.events = q.events[1:]
	return e, true, true
}

// deliver moves events from q to out until the queue is closed and empty, or
// ctx or stop ends it. It closes out.
func (q *queue) deliver(ctx context.Context, stop <-chan struct{}, out chan<- goqmp.Event) {
	defer close(out)
	for {
		e, ok, more := q.take()
		switch {
		case ok:
			select {
			case out <- e:
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
		case more:
			select {
			case <-q.changed:
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
		default:
			return
		}
	}
}

// Events returns a channel with the events that arrive from now on; the first
// caller also gets those that came before, the handshake included. Each caller
// has a queue of its own, and loses the oldest events if it falls more than 256
// behind. The channel is closed when ctx ends, after the last event once the
// connection has ended, and by [Monitor.Disconnect].
func (m *Monitor) Events(ctx context.Context) (<-chan goqmp.Event, error) {
	m.mu.Lock()
	q := m.backlog
	m.backlog = nil
	if q == nil {
		q = newQueue()
		if m.cause != nil {
			q.closed = true
		}
	}
	m.queues[q] = struct{}{}
	m.mu.Unlock()

	out := make(chan goqmp.Event)
	go func() {
		q.deliver(ctx, m.stop, out)
		m.mu.Lock()
		delete(m.queues, q)
		m.mu.Unlock()
	}()
	return out, nil
}

// publish gives e to every subscriber, or keeps it for the first one.
func (m *Monitor) publish(e goqmp.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.backlog != nil && m.backlog.put(e) {
		m.dropped.Add(1)
	}
	for q := range m.queues {
		if q.put(e) {
			m.dropped.Add(1)
		}
	}
}
