package fetch

import (
	"context"
	"fmt"
	"io"
	"time"
)

// watch ends a request whose server stands still.
type watch struct {
	timer *time.Timer
	stall time.Duration
	stop  func()
}

// watch returns a context that ends when nothing has come for the time that a server may
// stand still. The caller calls stop.
func (f Fetcher) watch(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{stall: f.stall()}
	w.timer = time.AfterFunc(w.stall, func() {
		cancel(fmt.Errorf("%w for %s", ErrStalled, w.stall))
	})
	w.stop = func() {
		w.timer.Stop()
		cancel(nil)
	}
	return ctx, w
}

// reader returns a reader that begins the time anew with each byte that comes.
func (w *watch) reader(r io.Reader) io.Reader { return &watched{r, w} }

type watched struct {
	io.Reader
	watch *watch
}

func (r *watched) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if n > 0 {
		r.watch.timer.Reset(r.watch.stall)
	}
	return n, err
}
