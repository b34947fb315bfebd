package cli

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A real guest sees who calls from the LAN, past a FORWARD chain that drops, and what the plan
// shows is what a run does. Nothing stays.
func TestGuestSeesWhoCalls(t *testing.T) {
	lab.Require(t, lab.Program("iptables-nft"))
	inLab(t, func(l *testHost) {
		lab.Sh(l, "iptables-nft -P FORWARD DROP")
		l.prepared()
		text := vm(l, "g", "qnet.net0=dhcp qnet.shell") + "[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\nports = [\"*:2080:80\", \"2081:80\"]\n"
		path := l.profile("g", text)
		plan := l.must("plan", path)
		for _, want := range []string{"add map inet qnet_dev forward_any4", "'{ tcp . 2080 : ", "dport 80 -m conntrack --ctstate DNAT", "nft delete chain inet qnet_dev forward_in"} {
			if !strings.Contains(plan, want) {
				t.Errorf("the plan lacks %q:\n%s", want, plan)
			}
		}
		l.must("run", "-d", path)
		c := l.shell("g")
		c.must(who)
		fromLAN := func(address string) (got string) {
			lab.InNamespace(t, "inet", func() error {
				got = l.saw(address)
				return nil
			})
			return got
		}
		if got := fromLAN("192.0.2.10:2080"); !strings.Contains(got, "192.0.2.1]") {
			t.Errorf("from the LAN the guest sees %q", got)
		}
		if got := l.saw("192.0.2.10:2080"); got != l.saw("127.0.0.1:2081") || !strings.Contains(got, ".1]") {
			t.Errorf("from the host the guest sees %q", got)
		}
		ls := l.must("forward", "ls", "g")
		if strings.Count(ls, "dnat") != 1 || strings.Count(ls, "relay") < 2 {
			t.Errorf("forward ls:\n%s", ls)
		}
		l.must("forward", "rm", "g", "*:2080:80")
		lab.Sh(l, "! nft list table inet qnet_dev | grep forward_; ! iptables-nft -S FORWARD | grep DNAT")
		l.must("forward", "add", "g", "192.0.2.10:2082:80")
		if got := fromLAN("192.0.2.10:2082"); !strings.Contains(got, "192.0.2.1]") {
			t.Errorf("live, from the LAN the guest sees %q", got)
		}
		l.must("stop", "--force", "g")
	})
}
