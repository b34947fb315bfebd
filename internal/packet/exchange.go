package packet

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxFrame is the longest frame that Exchange reads whole, in bytes.
const maxFrame = 4096

// Reader is what Exchange needs of a Conn.
type Reader interface {
	Read(b []byte) (n int, out bool, err error)
	SetReadDeadline(t time.Time) error
}

// Exchange calls ask, and again each time that every has passed, 0 being never, until
// received reports true for a frame that in reads. It returns nil then; otherwise an error
// of ask or in, or the cause of ctx's end. All calls come from the caller's goroutine. A
// frame is valid until received returns; out says that the host sent it by in's link.
func Exchange(ctx context.Context, in Reader, every time.Duration, ask func() error, received func(frame []byte, out bool) bool) error {
	stop := context.AfterFunc(ctx, func() { in.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // fails only when closed, which ends Read too
	defer stop()
	b := make([]byte, maxFrame)
	for {
		if err := ask(); err != nil {
			return err
		}
		var due time.Time
		if every > 0 {
			due = time.Now().Add(every)
		}
		if err := in.SetReadDeadline(due); err != nil {
			return err
		}
		done, err := receive(ctx, in, b, received)
		if done || err != nil {
			return err
		}
	}
}

// receive reads frames until the deadline. It checks ctx first: the deadline may have
// replaced the one that ctx's end has set.
func receive(ctx context.Context, in Reader, b []byte, received func([]byte, bool) bool) (done bool, err error) {
	for ctx.Err() == nil {
		n, out, err := in.Read(b)
		switch {
		case errors.Is(err, unix.ENETDOWN): // once, when the link goes down; it may come up
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, context.Cause(ctx)
		case err != nil:
			return false, err
		case received(b[:n], out):
			return true, nil
		}
	}
	return false, context.Cause(ctx)
}
