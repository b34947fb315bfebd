package qmp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	goqmp "github.com/digitalocean/go-qemu/qmp"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

const (
	query = `{"execute":"query-status"}`
	event = `{"event":"%s","data":{"n":%d},"timestamp":{"seconds":7,"microseconds":8}}` + "\r\n"
)

func TestConnectReadsVersion(t *testing.T) {
	m := connected(t, echo)
	if got := m.Version().String(); got != "7.2.22" {
		t.Errorf("got version %s, want 7.2.22", got)
	}
	if err := m.Connect(); err != nil {
		t.Errorf("second Connect: %v", err)
	}
}

func TestRunReturnsWholeReply(t *testing.T) {
	m := connected(t, echo)
	got, err := m.Run([]byte(`{"execute":"stop","id":7}`))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(got, []byte(`"return":"stop"`)) {
		t.Errorf("got %q, want the whole reply", got)
	}
}

func TestExecuteDecodesExactKeys(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		r, _ := f.next()
		f.send(`{"return":{"running":true},"id":"` + r.ID + `","RETURN":{"running":false},"EVENT":"STOP","ID":"x","Error":{}}` + "\n")
	})
	var got struct{ Running bool }
	if err := m.Execute(t.Context(), "query-status", nil, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Running {
		t.Error("a key in capitals overrode the exact one")
	}
}

func TestErrorKeepsClassAndEscapes(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		r, _ := f.next()
		f.send(`{"error":{"class":"DeviceNotFound","desc":"no \u001b[31m device"},"id":"` + r.ID + `"}` + "\n")
	})
	_, err := m.Run([]byte(query))
	var refused *qmp.Error
	if !errors.As(err, &refused) || refused.Class != "DeviceNotFound" {
		t.Fatalf("got %v, want an *Error of class DeviceNotFound", err)
	}
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("escape sequence survived: %q", err)
	}
}

func TestEventsBeforeGreetingAndReplyAreKept(t *testing.T) {
	m := serve(t, func(f *fakeQEMU) {
		f.send(fmt.Sprintf(event, "A", 1) + greeting + fmt.Sprintf(event, "B", 2)) // one packet
		r, _ := f.next()
		f.send(fmt.Sprintf(event, "C", 3) + `{"return":{},"id":"` + r.ID + `"}` + "\n" + fmt.Sprintf(event, "D", 4))
		r, _ = f.next()
		f.send(fmt.Sprintf(event, "E", 5))
		f.reply(r, `"first"`)
	})
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	if out, err := m.Run([]byte(query)); err != nil || !bytes.Contains(out, []byte("first")) {
		t.Fatalf("got %q, %v", out, err)
	}
	events, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	within(t, "events", func() {
		for range 5 {
			e := <-events
			got.WriteString(e.Event)
			if e.Timestamp.Seconds != 7 || e.Timestamp.Microseconds != 8 {
				t.Errorf("got timestamp %v", e.Timestamp)
			}
		}
	})
	if got.String() != "ABCDE" {
		t.Errorf("got events %s, want ABCDE", got.String())
	}
}

func TestByteByByte(t *testing.T) {
	m := serve(t, func(f *fakeQEMU) {
		slow := func(s string) {
			for _, b := range []byte(s) {
				f.send(string(b))
				runtime.Gosched()
			}
		}
		slow(greeting)
		for {
			r, ok := f.next()
			if !ok {
				return
			}
			slow(fmt.Sprintf(event, "STOP", 1) + `{"return":"ok","id":"` + r.ID + `"}` + "\n")
		}
	})
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run([]byte(query)); err != nil {
		t.Error(err)
	}
}

func TestEndings(t *testing.T) {
	for name, script := range map[string]func(*fakeQEMU){
		"closing-at-once":              func(f *fakeQEMU) { _ = f.conn.Close() },
		"closing-mid-object":           func(f *fakeQEMU) { f.send(`{"return":{"a"`); _ = f.conn.Close() },
		"not-json":                     func(f *fakeQEMU) { f.send("hello\n") },
		"not-an-object":                func(f *fakeQEMU) { f.send("[]\n") },
		"null":                         func(f *fakeQEMU) { f.send("null\n") },
		"too-deep":                     func(f *fakeQEMU) { f.send(strings.Repeat(`{"a":`, 1_000_000) + "\n") },
		"100-MiB-line-without-newline": func(f *fakeQEMU) { flood(f, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			m := connected(t, func(f *fakeQEMU) { f.next(); script(f) })
			within(t, "command", func() {
				if _, err := m.Run([]byte(query)); !errors.Is(err, qmp.ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			})
			if _, err := m.Run([]byte(query)); !errors.Is(err, qmp.ErrClosed) {
				t.Errorf("afterwards: got %v, want ErrClosed", err)
			}
			<-m.Done()
			if !errors.Is(m.Err(), qmp.ErrClosed) {
				t.Errorf("Err: got %v, want ErrClosed", m.Err())
			}
		})
	}
}

// flood sends n MiB without a newline, until the monitor hangs up.
func flood(f *fakeQEMU, n int) {
	block := bytes.Repeat([]byte{'x'}, 1<<20)
	for range n {
		if _, err := f.conn.Write(block); err != nil {
			return
		}
	}
}

func TestLongLineCostsLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	m := connected(t, func(f *fakeQEMU) { flood(f, 100) })
	runtime.ReadMemStats(&before)
	within(t, "end", func() { <-m.Done() })
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("got %d MiB allocated in all, want at most 64", used>>20)
	}
}

func TestLargestKnownReply(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		r, _ := f.next()
		f.reply(r, `"`+strings.Repeat("s", 1<<20)+`"`)
	})
	if out, err := m.Run([]byte(`{"execute":"query-qmp-schema"}`)); err != nil || len(out) < 1<<20 {
		t.Errorf("got %d bytes, %v", len(out), err)
	}
}

func TestConnectToSilentPeer(t *testing.T) {
	m := serve(t, func(*fakeQEMU) {})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.ConnectContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	if _, err := m.Run([]byte(query)); !errors.Is(err, qmp.ErrNotConnected) {
		t.Errorf("got %v, want ErrNotConnected", err)
	}
}

func TestLateReplyIsDiscarded(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		late, _ := f.next()
		r, _ := f.next()
		f.reply(late, `"late"`)
		f.reply(r, `"mine"`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.RunContext(ctx, []byte(query)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want DeadlineExceeded", err)
	}
	var got string
	if err := m.Execute(t.Context(), "query-name", nil, &got); err != nil || got != "mine" {
		t.Errorf("got %q, %v, want the reply to the second command", got, err)
	}
}

func TestPeerThatStopsReading(t *testing.T) {
	release := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	m := connected(t, func(f *fakeQEMU) {
		f.in.ReadByte() // the command has begun
		cancel(context.DeadlineExceeded)
		<-release
	})
	defer close(release)
	big := fmt.Sprintf(`{"execute":"x","arguments":{"a":%q}}`, strings.Repeat("y", 4<<20))
	within(t, "write", func() {
		if _, err := m.RunContext(ctx, []byte(big)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want DeadlineExceeded", err)
		}
	})
	if _, err := m.Run([]byte(query)); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("after half a command: got %v, want ErrClosed", err)
	}
}

func TestUnreadEventsBlockNothing(t *testing.T) {
	const n = 1000
	m := connected(t, func(f *fakeQEMU) {
		for i := range n {
			f.send(fmt.Sprintf(event, "TICK", i))
		}
		echo(f)
	})
	events, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	within(t, "command", func() {
		if _, err := m.Run([]byte(query)); err != nil {
			t.Error(err)
		}
	})
	if m.DroppedEvents() == 0 {
		t.Error("got no dropped event")
	}
	within(t, "disconnect", func() { _ = m.Disconnect() })
	within(t, "end of events", func() { drain(events) })
}

func drain(events <-chan goqmp.Event) (last goqmp.Event) {
	for e := range events {
		last = e
	}
	return last
}

func TestNewestEventsSurviveTheEnd(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		for i := range 1000 {
			f.send(fmt.Sprintf(event, "TICK", i))
		}
		f.send(fmt.Sprintf(event, "SHUTDOWN", 0))
		_ = f.conn.Close()
	})
	<-m.Done()
	events, _ := m.Events(t.Context())
	if last := drain(events); last.Event != "SHUTDOWN" {
		t.Errorf("got %q last, want SHUTDOWN", last.Event)
	}
	late, _ := m.Events(t.Context())
	within(t, "late subscriber", func() { drain(late) })
}

func TestEverySubscriberGetsEveryEvent(t *testing.T) {
	ready := make(chan struct{})
	m := connected(t, func(f *fakeQEMU) {
		<-ready
		f.send(fmt.Sprintf(event, "RESET", 1))
		_ = f.conn.Close()
	})
	one, _ := m.Events(t.Context())
	two, _ := m.Events(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	gone, _ := m.Events(ctx)
	cancel()
	within(t, "cancelled subscriber", func() { drain(gone) })
	close(ready)
	if drain(one).Event != "RESET" || drain(two).Event != "RESET" {
		t.Error("an event went to one subscriber only")
	}
}

func TestRunInsideEventLoop(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) { f.send(fmt.Sprintf(event, "A", 1)); echo(f) })
	events, _ := m.Events(t.Context())
	within(t, "loop", func() {
		<-events
		if _, err := m.Run([]byte(query)); err != nil {
			t.Error(err)
		}
	})
}

func TestConcurrentCommands(t *testing.T) {
	m := connected(t, echo)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name, got := fmt.Sprintf("c%d", i), ""
			if err := m.Execute(t.Context(), name, map[string]int{"n": i}, &got); err != nil || got != name {
				t.Errorf("got %q, %v, want %q", got, err, name)
			}
		})
	}
	wg.Wait()
}

func TestDisconnectFreesWaitingCommand(t *testing.T) {
	asked := make(chan struct{})
	m := connected(t, func(f *fakeQEMU) { f.next(); close(asked) })
	go func() { <-asked; _ = m.Disconnect() }()
	within(t, "command", func() {
		if _, err := m.Run([]byte(query)); !errors.Is(err, qmp.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	if err := m.Disconnect(); err != nil {
		t.Errorf("second Disconnect: %v", err)
	}
}

func TestDisconnectBeforeConnect(t *testing.T) {
	m := serve(t, func(*fakeQEMU) {})
	within(t, "disconnect", func() { _ = m.Disconnect() })
	if err := m.Connect(); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestOversizedEventIsCounted(t *testing.T) {
	m := connected(t, func(f *fakeQEMU) {
		f.send(`{"event":"BIG","data":{"a":"` + strings.Repeat("x", 1<<20) + `"}}` + "\n")
		echo(f)
	})
	if _, err := m.Run([]byte(query)); err != nil {
		t.Fatal(err)
	}
	if got := m.DroppedEvents(); got != 1 {
		t.Errorf("got %d dropped events, want 1", got)
	}
}
