package supervisor

import "testing"

// A keeper that starts for one that died tells nobody what it waits for: nobody would
// take the line away from the guest's console.
func TestStartWaits(t *testing.T) {
	told := ""
	s := &session{Options: Options{Waits: func(what string) { told += what }}}
	for _, state := range []string{stateStarting, "running", "stopping"} {
		s.state.State = state
		s.startWaits(state)
	}
	if told != stateStarting {
		t.Errorf("told %q", told)
	}
}
