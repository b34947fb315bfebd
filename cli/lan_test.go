package cli

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// On a bridge that the administrator made and that runs STP, the guest starts when its
// port forwards, and has a lease at once. qnet says what it waits for. The bridge stays as
// it was.
func TestForeignBridgeWithSTP(t *testing.T) {
	inLAN(t, lab.LANOptions{DHCP: true}, func(l *testHost, lan *lab.LAN) {
		lab.Sh(t, "ip link add br0 type bridge stp_state 1 forward_delay 200; sysctl -qw net/ipv6/conf/br0/disable_ipv6=1; ip link set eth0 master br0; ip link set br0 up")
		lab.Eventually(t, 20*time.Second, "br0 forwards", func() bool {
			return strings.Contains(lab.Sh(t, "bridge link show dev eth0; ip link show br0"), "state forwarding")
		})
		l.prepared()
		profile := l.profile("a", vm(l, "a", "qnet.net0=dhcp qnet.shell")+"[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \"br0\"\n")
		begin := time.Now()
		code, _, words := l.qnet("run", "-d", profile)
		if code != 0 || !strings.Contains(words, "bridge br0 runs STP: a VM starts when its port forwards") {
			t.Fatalf("exit code %d: %s", code, words)
		}
		if took := time.Since(begin); took < 4*time.Second {
			t.Errorf("started after %s, twice the forward delay of 2 s is 4 s", took)
		}
		lab.Sh(t, "bridge link show dev qna0 | grep -q 'state forwarding'")
		l.must("wait", "--timeout", "60s", "a")
		if n := strings.Count(lan.DHCPLog(), "DHCPDISCOVER"); n > 2 {
			t.Errorf("%d DISCOVERs reached the server: the guest started too early", n)
		}
		l.must("stop", "--force", "a")
		l.before.Check(t)
		lab.Sh(t, "ip link del br0")
		l.prepared()
	})
}

// A VM on the LAN of the NIC that the host itself uses: its address and name are
// known from what its frames show, the host and the LAN reach it, it sees the
// cable pulled and plugged, and qnet serves the LAN nothing.
func TestOnTheHostsLAN(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true, DHCP: true, RA: true}, func(l *testHost, lan *lab.LAN) {
		lan.AwaitSLAAC("eth0")
		l.prepared()
		lab.Sh(t, `ip netns exec lan nft -f - <<'EOF'
table netdev served {
	chain from_host {
		type filter hook ingress device "host0" priority 0; policy accept;
		udp sport { 53, 67, 547, 5353, 5355 } counter
		icmpv6 type nd-router-advert counter
	}
}
EOF`)
		g := l.boot("a", vm(l, "a", "qnet.net0=dhcp qnet.httpd qnet.shell")+"[[nic]]\nmode = \"bridge\"\n")
		address := strings.TrimSpace(l.must("wait", "--for", "port:80", "--timeout", "60s", "a"))
		if !strings.HasPrefix(address, "192.0.2.1") || strings.TrimSpace(l.must("ip", "a")) != address {
			t.Fatalf("%q is no lease of the LAN's, or not what qnet ip prints", address)
		}
		if out := l.must("hosts"); !strings.Contains(out, address) || !strings.Contains(out, "a.qnet") {
			t.Errorf("qnet hosts:\n%s", out)
		}
		l.hostFetches("http://"+address+"/", "hello from the guest")
		lab.Sh(t, "ip netns exec outside timeout 5 busybox wget -q -O - http://"+address+"/")
		g.must("ping -c 1 -W 2 " + lab.LANHost + " && ping -c 1 -W 2 " + lab.LANInternet)
		lab.Try("ip netns exec outside timeout 2 busybox nslookup a.qnet " + lab.LANHost) // no server must answer

		changes := func() int {
			n, err := strconv.Atoi(strings.TrimSpace(g.must("cat /sys/class/net/eth0/carrier_changes")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := changes()
		lan.Cable("host", false)
		time.Sleep(1500 * time.Millisecond)
		lan.Cable("host", true)
		lab.Eventually(t, 10*time.Second, "the guest's link down and up", func() bool { return changes() == before+2 })
		g.must("ping -c 1 -W 2 " + lab.LANGateway)

		out := lab.Sh(t, "ip netns exec lan nft list table netdev served")
		if strings.Count(out, "packets 0 ") != 2 {
			t.Errorf("qnet serves the LAN:\n%s", out)
		}
		l.must("stop", "--force", "a")
	})
}
