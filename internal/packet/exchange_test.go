package packet

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab/fakewire"
)

func TestExchange(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name   string
		every  time.Duration
		within time.Duration // of the context; 0 is no end
		frames map[time.Duration][]byte
		read   error // of the first Read
		ask    error // of the second call
		asked  int
		took   time.Duration
		want   error
	}{
		{"answered at once", time.Second, 0, map[time.Duration][]byte{0: {1}}, nil, nil, 1, 0, nil},
		{"another frame first", time.Second, 0, map[time.Duration][]byte{0: {0}, 100 * time.Millisecond: {1}}, nil, nil, 1, 100 * time.Millisecond, nil},
		{"what the host sends is no answer", time.Second, 0, map[time.Duration][]byte{0: {1, 1}, 100 * time.Millisecond: {1}}, nil, nil, 1, 100 * time.Millisecond, nil},
		{"at the third try", time.Second, 0, map[time.Duration][]byte{2500 * time.Millisecond: {1}}, nil, nil, 3, 2500 * time.Millisecond, nil},
		{"asked once", 0, 0, map[time.Duration][]byte{time.Hour: {1}}, nil, nil, 1, time.Hour, nil},
		{"never", time.Second, 3500 * time.Millisecond, nil, nil, nil, 4, 3500 * time.Millisecond, context.DeadlineExceeded},
		{"the link goes down and comes up", time.Second, 0, map[time.Duration][]byte{0: {1}}, unix.ENETDOWN, nil, 1, 0, nil},
		{"closed", time.Second, 0, nil, os.ErrClosed, nil, 1, 0, os.ErrClosed},
		{"nothing can be sent any more", time.Second, 0, nil, nil, refused, 2, time.Second, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.within > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.within)
					defer cancel()
				}
				in := fakewire.New()
				if c.read != nil {
					in.Fail(c.read)
				}
				for after, frame := range c.frames {
					send := in.Receive
					if len(frame) > 1 {
						send = in.Sent
					}
					time.AfterFunc(after, func() { send(frame) })
				}
				asked := 0
				ask := func() error {
					if asked++; asked == 2 {
						return c.ask
					}
					return nil
				}
				began := time.Now()
				err := Exchange(ctx, in, c.every, ask, func(b []byte, out bool) bool { return !out && b[0] == 1 })
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || asked != c.asked || time.Since(began) != c.took {
					t.Errorf("got %v after %v and %d questions, want %v after %v and %d", err, time.Since(began), asked, c.want, c.took, c.asked)
				}
			})
		})
	}
}

// A context that ended before is seen after the first question.
func TestExchangeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Exchange(ctx, fakewire.New(), time.Second, func() error { return nil }, func([]byte, bool) bool { return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
