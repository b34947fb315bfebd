package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// dropAll is what another firewall sets, and sets again: both engines of iptables
// drop what comes in and what is forwarded.
const dropAll = `for p in iptables-nft iptables-legacy; do
	printf '*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n' | $p-restore
done`

// A real guest behind firewalls that drop everything resolves and reaches the host
// and the outside, again within 2 s after they are reloaded; the plan says by what.
func TestGuestBehindFirewalls(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Require(t, lab.Program("iptables-nft"), lab.Legacy)
		lab.Sh(l, dropAll)
		l.prepared()
		profile := vm(l, "web", "qnet.net0=dhcp qnet.shell") + "[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n"
		plan := l.must("plan", l.profile("web", profile))
		for _, want := range []string{
			`iptables-nft -w 10 -t filter -I FORWARD -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`,
			`iptables-legacy -w 10 -t filter -D FORWARD -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`,
		} {
			if !strings.Contains(plan, want) {
				l.Errorf("the plan has no %s:\n%s", want, plan)
			}
		}
		c := l.boot("web", profile)
		reach := "nslookup host.qnet > /dev/null && ping -c1 -W1 203.0.113.1 > /dev/null"
		c.must(reach)
		lab.Sh(l, dropAll)
		lab.Eventually(l, 2*time.Second, "the guest reaches everything again", func() bool {
			_, ok := c.sh(reach)
			return ok
		})
		l.must("stop", "--force", "web")
	})
}
