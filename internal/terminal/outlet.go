package terminal

import (
	"io"
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
type Outlet struct {
	to     io.Writer
	failed func(error) // called once, when to takes no more
	chunks chan []byte
	done   chan struct{}
	wait   time.Duration
	stuck  bool // the reader let the wait pass, and has not read since
}

// NewOutlet starts the goroutine, which ends after Close, or never if the reader never
// reads. failed may be nil.
func NewOutlet(to io.Writer, failed func(error)) *Outlet {
	o := &Outlet{to: to, failed: failed, chunks: make(chan []byte, backlog), done: make(chan struct{}), wait: patience}
	go o.copy()
	return o
}

func (o *Outlet) copy() {
	defer close(o.done)
	for chunk := range o.chunks {
		if _, err := o.to.Write(chunk); err != nil && o.failed != nil {
			o.failed(err)
			o.failed = nil
		}
	}
}

// Put passes a chunk on, or drops it.
func (o *Outlet) Put(chunk []byte) {
	select {
	case o.chunks <- chunk:
		o.stuck = false
		return
	default:
	}
	if o.stuck {
		return
	}
	select {
	case o.chunks <- chunk:
	case <-time.After(o.wait):
		o.stuck = true
	}
}

// Close waits until everything is written, or nothing was for as long as the wait.
func (o *Outlet) Close() {
	close(o.chunks)
	for left := len(o.chunks) + 1; ; left = len(o.chunks) {
		select {
		case <-o.done:
			return
		case <-time.After(o.wait):
		}
		if len(o.chunks) >= left {
			return
		}
	}
}
