package terminal

import (
	"io"
	"sync"
	"time"
)

// backlog is how many chunks wait for the reader.
const backlog = 256

// patience is how long the guest waits for a reader of stdout that does not read, and how
// long the VM's end does.
const patience = 2 * time.Second

// Outlet copies chunks to a writer, by a goroutine of its own. A reader that is slow holds
// the guest up, as every program holds up who writes to it. One that does not read at all,
// such as a pager that waits for a key, misses chunks: neither the guest nor the VM's end
// waits for it.
type Outlet = queue[[]byte]

// NewOutlet starts the goroutine, which ends after Close, or never if the reader never
// reads. failed is called once, when to takes no more; it may be nil.
func NewOutlet(to io.Writer, failed func(error)) *Outlet {
	return newQueue(func(chunk []byte) {
		if _, err := to.Write(chunk); err != nil && failed != nil {
			failed(err)
			failed = nil
		}
	})
}

// Speech calls what writes qnet's own words, in order and by a goroutine of its own, with
// the patience of an Outlet: a stderr that nobody reads must not hold up a VM's end.
type Speech = queue[func()]

// NewSpeech starts the goroutine, see NewOutlet.
func NewSpeech() *Speech { return newQueue(func(say func()) { say() }) }

// queue is what waits for a reader. Its methods may be called concurrently.
type queue[T any] struct {
	chunks chan T
	done   chan struct{}
	wait   time.Duration

	mu     sync.Mutex // guards what follows, and the close of chunks
	stuck  bool       // the reader let the wait pass, and has not read since
	closed bool
}

func newQueue[T any](take func(T)) *queue[T] {
	q := &queue[T]{chunks: make(chan T, backlog), done: make(chan struct{}), wait: patience}
	go func() {
		defer close(q.done)
		for chunk := range q.chunks {
			take(chunk)
		}
	}()
	return q
}

// Put passes a chunk on, or drops it.
func (q *queue[T]) Put(chunk T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	select {
	case q.chunks <- chunk:
		q.stuck = false
		return
	default:
	}
	if q.stuck {
		return
	}
	select {
	case q.chunks <- chunk:
	case <-time.After(q.wait):
		q.stuck = true
	}
}

// Close waits until everything is written, or nothing was for as long as the wait.
func (q *queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	close(q.chunks)
	q.mu.Unlock()
	for left := len(q.chunks) + 1; ; left = len(q.chunks) {
		select {
		case <-q.done:
			return
		case <-time.After(q.wait):
		}
		if len(q.chunks) >= left {
			return
		}
	}
}
