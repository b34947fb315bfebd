// Package fakewire is a packet socket for tests without a link and without rights. In a
// bubble of testing/synctest, its deadlines are the bubble's.
package fakewire

import (
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
)

// Wire has frames to read. Its methods may be called concurrently.
type Wire struct {
	frames  chan heard
	changed chan struct{} // of capacity 1: the deadline has changed

	mu       sync.Mutex // guards what follows
	deadline time.Time
	filter   []bpf.Instruction
}

type heard struct {
	frame []byte
	out   bool
	err   error
}

// New returns a wire without frames.
func New() *Wire { return &Wire{frames: make(chan heard, 64), changed: make(chan struct{}, 1)} }

// Receive has a frame come in.
func (w *Wire) Receive(frame []byte) { w.frames <- heard{frame: frame} }

// Sent has a frame appear that the host sends itself.
func (w *Wire) Sent(frame []byte) { w.frames <- heard{frame: frame, out: true} }

// Fail has one Read return the error.
func (w *Wire) Fail(err error) { w.frames <- heard{err: err} }

// Read returns the next frame, or os.ErrDeadlineExceeded.
func (w *Wire) Read(b []byte) (n int, out bool, err error) {
	for {
		w.mu.Lock()
		deadline := w.deadline
		w.mu.Unlock()
		var end <-chan time.Time
		if !deadline.IsZero() {
			end = time.After(time.Until(deadline))
		}
		select {
		case h := <-w.frames:
			return copy(b, h.frame), h.out, h.err
		case <-w.changed:
		case <-end:
			return 0, false, os.ErrDeadlineExceeded
		}
	}
}

// SetReadDeadline ends Read at that time; the zero time is never.
func (w *Wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	w.deadline = t
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
}

// SetFilter notes the filter, and lets all frames pass.
func (w *Wire) SetFilter(filter []bpf.Instruction) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filter = filter
	return nil
}

// Filter returns the filter that was set last, nil if none was.
func (w *Wire) Filter() []bpf.Instruction {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.filter
}

// Close has Read return os.ErrClosed after the frames before.
func (w *Wire) Close() error {
	w.Fail(os.ErrClosed)
	return nil
}
