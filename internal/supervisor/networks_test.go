package supervisor

import (
	"testing"

	"github.com/qnet-vm/qnet/internal/control"
)

// A keeper that starts in place of one that died waits silently: the status line would
// stay on the guest's console.
func TestStartProgress(t *testing.T) {
	told := ""
	s := &session{Options: Options{Progress: func(what string) { told += what }}}
	for _, state := range []control.Phase{control.Starting, control.Running, control.Stopping} {
		s.state.State = state
		s.startProgress(string(state))
	}
	if told != string(control.Starting) {
		t.Errorf("told %q", told)
	}
}
