package keeper_test

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// A starting keeper tells what it waits for while the host moves.
func TestStartTellsWhatItWaitsFor(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		var heard []string
		o.Waits = func(what string) { heard = append(heard, what) }
		r := mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}, "web", port(1))
		mustLeave(t, r)
		all := strings.Join(heard, "\n")
		for _, words := range []string{"last keeper", "the host's gateways, before anything is changed", "the answer of " + lab.LANGateway} {
			if !strings.Contains(all, words) {
				t.Errorf("no %q in %q", words, all)
			}
		}
	})
}
