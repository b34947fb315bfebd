package qmp_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

// FuzzStream lets the peer send anything after, or instead of, the handshake:
// every call must end, and nothing may panic.
func FuzzStream(f *testing.F) {
	f.Add(greeting)                                              // a good start
	f.Add(greeting + `{"return":{},"id":"qnet-1"}` + "\n")       // a whole handshake
	f.Add(`{"event":"A"}` + "\n" + greeting)                     // an event first
	f.Add(greeting + greeting)                                   // greeted twice
	f.Add(greeting + `{"error":1,"id":"qnet-1"}` + "\n")         // an error of the wrong type
	f.Add(greeting + `{"event":null,"data":[],"QMP":{}}` + "\n") // kinds mixed
	f.Add(`{"QMP":[]}` + "\n" + `{"id":"qnet-1"}` + "\n")        // no version, no return
	f.Add("\x00\xff\n\n\n")                                      // not JSON, empty lines
	f.Fuzz(func(t *testing.T, stream string) {
		ours, theirs := pair(t)
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = io.WriteString(theirs, stream)
			_ = theirs.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		m := qmp.New(ours)
		events, err := m.Events(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ConnectContext(ctx); err == nil {
			_, err = m.RunContext(ctx, []byte(query))
			if err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("command hung on %q", stream)
			}
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("handshake hung on %q", stream)
		}
		_ = m.Disconnect()
		drain(events)
	})
}
