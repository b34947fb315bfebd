package keeper_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// crossed is what the other process gets of an error.
func crossed(t *testing.T, err error) *keeper.WireError {
	t.Helper()
	b, encodeErr := json.Marshal(keeper.ToWire(err))
	if encodeErr != nil {
		t.Fatal(encodeErr)
	}
	var w keeper.WireError
	if err := json.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	return &w
}

// An error crosses with all that errors.Is says of it, in the same order each time,
// and with the command of the step that failed.
func TestErrorsCrossWithAllTheirKinds(t *testing.T) {
	add := step.AddAddr{Link: "qn-dev", Prefix: netip.MustParsePrefix("10.77.0.1/24")}
	err := errors.Join(
		&apply.Error{Step: add, Err: fmt.Errorf("add address: %w", host.ErrNoPermission)},
		fmt.Errorf("%w: undo: %w", host.ErrLeft, host.ErrRefused),
	)
	for range 200 {
		w := crossed(t, err)
		if want := []string{"no-permission", "refused", "left"}; !slices.Equal(w.Kinds, want) || w.Kind != want[0] {
			t.Fatalf("kinds %v, first %q, want %v", w.Kinds, w.Kind, want)
		}
		far := fmt.Errorf("join network: %w", w)
		for _, kind := range []error{host.ErrNoPermission, host.ErrRefused, host.ErrLeft} {
			if !errors.Is(far, kind) {
				t.Errorf("it is no %v any more", kind)
			}
		}
		if errors.Is(far, host.ErrNotOurs) {
			t.Error("it has become one that it was not")
		}
		if got := keeper.FailedCommand(far); got != add.String() || w.Error() != err.Error() {
			t.Errorf("command %q, text %q", got, w)
		}
	}
}

// A keeper of version 0 sends one kind, and a supervisor of version 0 reads one.
func TestErrorsOfVersionZero(t *testing.T) {
	var w keeper.WireError
	if err := json.Unmarshal([]byte(`{"text":"no","kind":"refused"}`), &w); err != nil || !errors.Is(&w, host.ErrRefused) {
		t.Errorf("got %v, %v", &w, err)
	}
	if w := crossed(t, fmt.Errorf("undo: %w", host.ErrLeft)); w.Kind != "" || !errors.Is(w, host.ErrLeft) {
		t.Errorf("kind %q, which version 0 does not know", w.Kind)
	}
	full := fmt.Errorf("write journal: %w", unix.ENOSPC)
	if w := crossed(t, full); w.Kind != "" || !errors.Is(w, unix.ENOSPC) || w.Error() != full.Error() {
		t.Errorf("kind %q, which version 0 does not know", w.Kind)
	}
	if w := crossed(t, fmt.Errorf("%w: %w", host.ErrNoSysctls, host.ErrRefused)); w.Kind != "refused" || !errors.Is(w, host.ErrNoSysctls) {
		t.Errorf("kind %q, want the one that version 0 knows", w.Kind)
	}
	if w := crossed(t, errors.New("no more")); w.Kind != "" || w.Kinds != nil || keeper.FailedCommand(w) != "" {
		t.Errorf("got %+v", w)
	}
}

// Two versions that do not understand each other say so, and what to do.
func TestVersionsThatDoNotMeet(t *testing.T) {
	ours := keeper.Versions{Version: 3, Oldest: 2}
	for name, c := range map[string]struct {
		other keeper.Versions
		words string // of the refusal, "" for none
	}{
		"same":                {ours, ""},
		"older, understood":   {keeper.Versions{Version: 2}, ""},
		"older, not":          {keeper.Versions{Version: 1}, "an older qnet"},
		"without versions":    {keeper.Versions{}, "an older qnet"},
		"newer, understands":  {keeper.Versions{Version: 7, Oldest: 3}, ""},
		"newer, does not any": {keeper.Versions{Version: 7, Oldest: 4}, "a newer qnet"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ours.Check(c.other, "dev", []string{"web", "db"})
			if c.words == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			for _, words := range []string{c.words, `network "dev"`, "stop VMs [web db]"} {
				if err == nil || !strings.Contains(err.Error(), words) {
					t.Errorf("no %q in %v", words, err)
				}
			}
			if !errors.Is(err, host.ErrRefused) {
				t.Errorf("%v is no refusal", err)
			}
		})
	}
	if err := keeper.Speaks.Check(keeper.Versions{}, "dev", nil); err != nil {
		t.Errorf("version 0 is refused: %v", err)
	}
}

// A supervisor of version 0 gets notes as sentences, a later one their parts.
func TestNotesForEachVersion(t *testing.T) {
	note := Note{Subject: "VM web", Text: "it is cut off", Remedy: "restart it"}
	rep := keeper.Reply{Told: []Note{note}}
	if old := rep.For(keeper.Versions{}); !slices.Equal(old.Notes, []string{"it is cut off; restart it"}) || old.Told != nil {
		t.Errorf("version 0 gets %+v", old)
	}
	if now := rep.For(keeper.Speaks); !slices.Equal(now.Told, []Note{note}) || now.Notes != nil || now.Version != keeper.Version {
		t.Errorf("this version gets %+v", now)
	}
}
