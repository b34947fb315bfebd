package standstill

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// A guest that qnet holds says so, and another reason to stand still is not overridden.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, guest, told := watched(t)
		told()
		if ran, err := guest.Hold(t.Context(), ByUser); !ran || err != nil {
			t.Fatalf("%t, %v", ran, err)
		}
		m.becomes("paused", stop)
		if got := told(); len(got) != 1 || got[0].Halt.Short() != "by qnet pause" || got[0].Minor || !strings.Contains(texts(got), "qnet resume") {
			t.Errorf("got %+v", got)
		}
		if ran, err := guest.Hold(t.Context(), ForSaving); ran || err != nil {
			t.Errorf("a second hold: %t, %v", ran, err)
		}
		if h, err := guest.Halt(t.Context()); err != nil || h.Why != ByUser {
			t.Errorf("got %+v, %v", h, err)
		}
		if stood, err := guest.Release(t.Context()); !stood || err != nil {
			t.Errorf("%t, %v", stood, err)
		}
		m.becomes("running", resume)
		if got := told(); len(got) != 1 || got[0].Text != "goes on" {
			t.Errorf("got %+v", got)
		}
		if stood, err := guest.Release(t.Context()); stood || err != nil {
			t.Errorf("of a guest that runs: %t, %v", stood, err)
		}
		m.becomes("paused", stop)
		if got := told(); len(got) != 1 || got[0].Halt.Why != "" {
			t.Errorf("another program's pause: %+v", got)
		}
		if did := m.did(); !slices.Equal(did, []string{"stop", "cont"}) {
			t.Errorf("did %q", did)
		}
	})
}

func TestHoldWhatStands(t *testing.T) {
	for state, want := range map[string]string{"suspended": "suspended", "guest-panicked": "panicked", "internal-error": "internal error"} {
		synctest.Test(t, func(t *testing.T) {
			m, guest, _ := watched(t)
			m.becomes(state)
			_, err := guest.Hold(t.Context(), ForSaving)
			if !errors.Is(err, ErrStands) || !strings.Contains(err.Error(), want) {
				t.Errorf("hold: got %v", err)
			}
			_, err = guest.Release(t.Context())
			if did := m.did(); state == "suspended" && (err != nil || !slices.Equal(did, []string{"system_wakeup"})) || state != "suspended" && (!errors.Is(err, ErrStands) || len(did) != 0) {
				t.Errorf("release: got %v, did %q", err, did)
			}
		})
	}
}
