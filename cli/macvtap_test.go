package cli

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// inLAN is onLAN that checks afterwards that the host is as it was.
func inLAN(t *testing.T, o lab.LANOptions, f func(l *testHost, lan *lab.LAN)) {
	t.Helper()
	onLAN(t, o, func(l *testHost, lan *lab.LAN) {
		f(l, lan)
		if !l.Failed() {
			l.before.Check(l)
		}
	})
}

const byMacvtap = "[[nic]]\nmode = \"bridge\"\n[network.bridge]\nmacvtap = true\n"

// Real guests get their leases from the LAN by macvtap links, reach each other
// and the LAN, but not the host, which plan says beforehand; the host's own NIC
// stays as it is.
func TestMacvtapOnTheLAN(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true, DHCP: true}, func(l *testHost, _ *lab.LAN) {
		profile := vm(l, "a", "qnet.net0=dhcp qnet.httpd qnet.shell") + byMacvtap
		plan := l.must("plan", l.profile("plan", profile))
		for _, words := range []string{"# network bridge: bridge, macvtap on eth0", "this host and its VMs do not reach each other", "ip link add link eth0 name qna0 address 52:54:00:"} {
			if !strings.Contains(plan, words) {
				t.Errorf("no %q in\n%s", words, plan)
			}
		}
		ping := lab.PingFrom(t, "outside", lab.LANHost)
		l.must("run", "-d", l.profile("a", profile))
		l.must("run", "-d", l.profile("b", vm(l, "b", "qnet.net0=dhcp qnet.shell")+byMacvtap))
		a, b := l.shell("a"), l.shell("b")
		l.must("wait", "--timeout", "60s", "b")
		l.must("wait", "--timeout", "60s", "a")
		address := strings.TrimSpace(l.must("ip", "a"))
		if !strings.HasPrefix(address, "192.0.2.1") {
			t.Fatalf("qnet ip: %s, which is no lease of the LAN's", address)
		}
		if out := l.must("ps"); !strings.Contains(out, address) {
			t.Errorf("qnet ps:\n%s", out)
		}
		if out := l.must("net"); !strings.Contains(out, "(macvtap)") || !strings.Contains(out, "a,b") {
			t.Errorf("qnet net:\n%s", out)
		}
		a.must("ping -c 1 -W 2 " + lab.LANGateway + " && ping -c 1 -W 2 " + lab.LANInternet)
		b.must("wget -q -O - http://" + address + "/ && ping -c 1 -W 2 " + lab.LANOutside)
		lab.Sh(t, "ip netns exec outside timeout 5 busybox wget -q -O - http://"+address+"/")
		b.must("for i in $(seq 200); do ip -6 addr show dev eth0 | grep fe80 | grep -vq tentative && break; sleep 0.1; done; ip -6 addr show dev eth0; ping -6 -c 1 -W 2 ff02::1%eth0")
		a.fails("the host, macvtap's limit", "ping -c 1 -W 1 "+lab.LANHost)
		if lab.Pings("", address) {
			t.Error("the host reaches the guest: macvtap has lost its limit, and the docs are wrong")
		}
		l.refused(3, []string{`VM "c" wants network "bridge" without macvtap, VMs [a b] run it with`},
			"run", l.profile("c", vm(l, "c", "")+"[[nic]]\nmode = \"bridge\"\n"))
		l.refused(3, []string{`network "other": uplink "eth0" carries network "bridge" (VM a, b) by macvtap`},
			"run", l.profile("d", vm(l, "d", "")+"[[nic]]\nmode = \"bridge\"\nnetwork = \"other\"\n"))
		l.must("stop", "--force", "a")
		l.must("stop", "--force", "b")
		if c := ping(); c.Lost > 0 {
			t.Errorf("the host was away: %s", c)
		}
	})
}
