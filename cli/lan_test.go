package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/nstest"
)

// On a bridge of the administrator's that runs STP the guest starts only when its
// port forwards, is told why, and has a lease at once. The bridge stays as it was.
func TestForeignBridgeWithSTP(t *testing.T) {
	inLAN(t, nstest.LANOptions{DHCP: true}, func(l *lab, lan *nstest.LAN) {
		nstest.Sh(t, "ip link add br0 type bridge stp_state 1 forward_delay 200; sysctl -qw net/ipv6/conf/br0/disable_ipv6=1; ip link set eth0 master br0; ip link set br0 up")
		nstest.Eventually(t, 20*time.Second, "br0 forwards", func() bool {
			return strings.Contains(nstest.Sh(t, "bridge link show dev eth0; ip link show br0"), "state forwarding")
		})
		l.prepared()
		profile := l.profile("a", vm(t, "a", "qnet.net0=dhcp qnet.shell")+"[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \"br0\"\n")
		begin := time.Now()
		code, _, words := l.qnet("run", "-d", profile)
		if code != 0 || !strings.Contains(words, "bridge br0 runs STP: a VM starts when its port forwards") {
			t.Fatalf("exit code %d: %s", code, words)
		}
		if took := time.Since(begin); took < 4*time.Second {
			t.Errorf("started after %s, twice the forward delay of 2 s is 4 s", took)
		}
		nstest.Sh(t, "bridge link show dev qna0 | grep -q 'state forwarding'")
		l.must("wait", "--timeout", "60s", "a")
		if n := strings.Count(lan.DHCPLog(), "DHCPDISCOVER"); n > 2 {
			t.Errorf("%d DISCOVERs reached the server: the guest started too early", n)
		}
		l.must("stop", "--force", "a")
		l.before.Check(t)
		nstest.Sh(t, "ip link del br0")
		l.prepared()
	})
}
