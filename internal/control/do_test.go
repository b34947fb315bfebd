package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// An operation's answer, reports, error and hint cross.
func TestDo(t *testing.T) {
	s := serve(t, "web")
	var got, reported string
	o := DoOptions{Report: func(what string) { reported += what }}
	if err := Do(t.Context(), s.place.RunDir, "web", Operation{Name: "echo", Args: "a\x1bb"}, &got, o); err != nil || got != `a\x1bb` || reported != "begins" {
		t.Errorf("got %q, %v, reported %q", got, err, reported)
	}
	err := Do(t.Context(), s.place.RunDir, "web", Operation{Name: "full"}, nil, o)
	var hint interface{ Hint() string }
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &hint) || hint.Hint() != "make room" || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
	if err := Do(t.Context(), s.place.RunDir, "web", Operation{Name: "other"}, nil, DoOptions{}); err == nil {
		t.Error("an answer that is no JSON")
	}
	lab.Eventually(t, time.Second, "no client is kept", func() bool {
		s.Server.mu.Lock()
		defer s.Server.mu.Unlock()
		return len(s.clients) == 0
	})
}

// The client of an operation that ends the VM waits for that and for the undo.
func TestDoThatEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*supervisor)
		want error
	}{
		"well":   {func(s *supervisor) { s.End(nil); s.exit() }, nil},
		"undone": {func(s *supervisor) { s.End(unix.EBUSY); s.exit() }, ErrNotUndone},
		"dies":   {func(s *supervisor) { s.exit() }, ErrDied},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "web")
			ended := false
			o := DoOptions{
				Report: func(string) { close(s.rungs) },
				Ended:  func() { ended = true; c.end(s) },
			}
			err := Do(t.Context(), s.place.RunDir, "web", Operation{Name: "suspend", Ends: true}, nil, o)
			if !errors.Is(err, c.want) || !ended {
				t.Errorf("got %v, ended %t", err, ended)
			}
		})
	}
}

// A supervisor of an older qnet says so by not knowing the request; one that dies says nothing.
func TestDoOfAnother(t *testing.T) {
	for answer, want := range map[string]error{`{"error":"unknown request do"}` + "\n": ErrUnknown, "": ErrDied} {
		if err := Do(t.Context(), answering(t, "web", answer), "web", Operation{Name: "pause"}, nil, DoOptions{}); !errors.Is(err, want) {
			t.Errorf("%q: got %v", answer, err)
		}
	}
	if err := Do(t.Context(), t.TempDir(), "web", Operation{Name: "pause"}, nil, DoOptions{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}
