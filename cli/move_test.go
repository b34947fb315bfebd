package cli

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

const ownNIC = "[[nic]]\nmode = \"bridge\"\n"

// onLAN runs the test on a host whose eth0 is on a LAN, see lab.NewLAN.
func onLAN(t *testing.T, o lab.LANOptions, f func(l *testHost, lan *lab.LAN)) {
	t.Helper()
	lab.Require(t, lab.Root, lab.Tun, lab.QEMU, lab.Program("nft"), lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, o)
		l := newLab(t)
		l.prepared()
		f(l, lan)
	})
}

// A guest is on the host's own LAN by the host's own NIC: the LAN's DHCP server gives it
// its address, and host, guest and LAN reach each other. Connections survive the move and
// the way back.
func TestGuestByTheHostsNIC(t *testing.T) {
	onLAN(t, lab.LANOptions{Static: true, DHCP: true, RA: true}, func(l *testHost, lan *lab.LAN) {
		serve(l, "", lab.LANHost, "hello from the host")
		pings, talk := lab.PingFrom(t, "outside", lab.LANHost), lab.Talk(t, "outside", lab.LANHost)
		l.prepared()
		g := l.boot("b", vm(l, "b", "qnet.net0=dhcp qnet.httpd qnet.shell")+ownNIC)
		out := g.must("ip -4 -o addr show dev eth0; ip route")
		address := regexp.MustCompile(`192\.0\.2\.1\d\d`).FindString(out)
		if address == "" || !strings.Contains(out, "default via "+lab.LANGateway) || !strings.Contains(lan.DHCPLog(), address) {
			t.Fatalf("no lease of the LAN's: %s", out)
		}
		g.must("ping -c 1 -W 2 " + lab.LANInternet)
		if out := g.must("wget -q -O - http://" + lab.LANHost + "/"); !strings.Contains(out, "hello from the host") {
			t.Errorf("guest to host: %q", out)
		}
		l.hostFetches("http://"+address+"/", "hello from the guest")
		if !lab.Pings("outside", address) || !lab.Pings("", lab.LANInternet) || !lab.Pings("", lab.LANInternet6) {
			t.Error("outside does not reach the guest, or the host not the Internet")
		}
		if out := strings.TrimSpace(l.must("ip", "b")); out != address {
			t.Errorf("qnet ip: got %q, want %s", out, address)
		}
		g.sh("(sleep 1; poweroff -f) &")
		lab.Eventually(t, 20*time.Second, "the NIC is back", func() bool {
			_, err := lab.Try("ip link show qn-bridge")
			return err != nil
		})
		// A router advertises itself every 3 to 4 s, and only then the kernel has its own route.
		lab.Eventually(t, 6*time.Second, "the host as it was", func() bool { return lab.Diff(l.before, lab.Snapshot(t, l.run)) == "" })
		l.before.Check(t)
		if c, d := pings(), talk(); c.Lost > lab.MoveLoss || d.Lost > 0 {
			t.Errorf("outside to host: %s; TCP %s", c, d)
		}
	})
}

// A refusal names the way out, and changes nothing.
func TestMoveIsRefused(t *testing.T) {
	onLAN(t, lab.LANOptions{Static: true}, func(l *testHost, lan *lab.LAN) {
		path := l.profile("r", idle+ownNIC)
		lan.Cable("gateway", false)
		l.refused(exitIncapable, []string{"192.0.2.1 does not answer now", "--assume-yes"}, "run", path)
		lan.Cable("gateway", true)
		l.env = append(l.env, "SSH_CONNECTION=192.0.2.20 51234 192.0.2.10 22")
		l.refused(exitIncapable, []string{"your own session from 192.0.2.20", "watchdog", "--assume-yes"}, "run", path)
		l.must("run", "-d", "--assume-yes", path)
		l.must("stop", "--force", "r")
		l.before.Check(t)
		plan := l.must("plan", path)
		if !strings.Contains(plan, "# note: a run is refused: ") || !strings.Contains(plan, "your own session from 192.0.2.20") {
			t.Errorf("the plan does not say that a run is refused:\n%s", plan)
		}
		if !strings.Contains(plan, "ip link set eth0 master qn-bridge") || !strings.Contains(plan, "ip link set eth0 nomaster") ||
			!strings.Contains(plan, "\n# "+lab.LANGateway+" (") || !strings.Contains(plan, " must answer on qn-bridge") { // with MACs, as a run asks for them
			t.Errorf("the plan does not show the move and its undo:\n%s", plan)
		}
		lab.Sh(t, "tc qdisc add dev eth0 clsact")
		l.refused(exitIncapable, []string{"the tc qdisc clsact attached"}, "run", path)
		lab.Sh(t, "tc qdisc del dev eth0 clsact")
	})
}

// While the host's NIC is a port of qnet's bridge, guests of a nat network leave by that
// bridge, and doctor does not say that a running mode cannot work.
func TestNATBesideTheMove(t *testing.T) {
	onLAN(t, lab.LANOptions{Static: true}, func(l *testHost, _ *lab.LAN) {
		l.prepared()
		path := l.profile("lan", idle+ownNIC)
		l.must("run", "-d", path)
		l.must("doctor", path)
		l.must("doctor", "--probe", "--name", "host.qnet", "--target", lab.LANInternet+":9")
		l.must("stop", "--force", "lan")
		l.before.Check(t)

		// The bridge forwards only with the guard that the NIC had, also when it comes
		// after the nat network.
		l.must("run", "-d", l.profile("web", idle+"[[nic]]\nmode = \"nat\"\n"))
		l.must("run", "-d", path)
		lab.Eventually(t, 5*time.Second, "the bridge forwards, and its set names it", func() bool {
			return strings.Contains(lab.Sh(t, "nft list set inet qnet_nat newly_forwarded"), `"qn-bridge"`) &&
				lab.Sh(t, "cat /proc/sys/net/ipv4/conf/qn-bridge/forwarding") == "1\n"
		})
		l.must("doctor", "--probe", "--name", "host.qnet", "--target", lab.LANInternet+":9")
		l.must("stop", "--force", "lan")
		l.must("stop", "--force", "web")
		l.before.Check(t)
	})
}
