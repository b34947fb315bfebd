package keeper_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Where systemd-resolved runs, the host resolves VMs' names through it, and it
// knows nothing of the network afterwards.
func TestHostResolvesNames(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		stop, start := lab.Resolved(t)
		defer func() { stop() }()
		state := func() string {
			return lab.Sh(t, "find /run/systemd/resolve -type f | sort; cat /run/systemd/resolve/resolv.conf")
		}
		before := state()
		told := &notes{}
		o.Note = told.add
		defer func() {
			if t.Failed() {
				t.Logf("told: %q", told.texts)
			}
		}()
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		want := r.Ports()[0].Address.String()
		resolves := func() bool {
			out, err := lab.Try("timeout 1 busybox nslookup -type=a web.qnet 127.0.0.53")
			return err == nil && strings.Contains(out, want)
		}
		lab.Eventually(t, 30*time.Second, "web.qnet on the host", resolves)
		// The keeper tells a systemd-resolved that starts anew again, also if it has lost what
		// it knew.
		stop()
		lab.Sh(t, "rm -r /run/systemd/resolve/netif")
		start()
		lab.Eventually(t, 30*time.Second, "web.qnet from a systemd-resolved that started later", resolves)
		mustLeave(t, r)
		if after := state(); after != before {
			t.Errorf("systemd-resolved keeps\n%s\nand had\n%s", after, before)
		}
	})
}
