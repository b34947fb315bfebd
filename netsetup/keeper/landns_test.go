package keeper_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// The host resolves names while it is on the bridge and afterwards, with each program
// that can tell systemd-resolved of the LAN's name server. It gets the answer that a name
// does not exist at once.
func TestNamesWhileAPort(t *testing.T) {
	byHand := clientCase{start: func(t *testing.T) string {
		t.Helper()
		lab.Sh(t, "ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1; resolvectl dns eth0 192.0.2.1; resolvectl domain eth0 '~.'")
		return lab.LANHost
	}}
	for name, c := range map[string]clientCase{
		"by hand": byHand, "systemd-networkd": clientCases()["systemd-networkd"], "NetworkManager": clientCases()["NetworkManager"],
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, c.needs...)
			onLAN(t, lab.LANOptions{DHCP: true}, func(t *testing.T, lan *lab.LAN, o Options) { namesWhileAPort(t, lan, o, c) })
		})
	}
}

func namesWhileAPort(t *testing.T, lan *lab.LAN, o Options, c clientCase) {
	t.Helper()
	lan.Daemon("gateway", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=", "--pid-file=", "--no-resolv", "--no-hosts",
		"--bind-interfaces", "--interface=eth0", "--except-interface=lo", "--address=/lan.example/192.0.2.77", "--address=/none.example/")
	lab.Resolved(t)
	c.start(t)
	asked := 0
	ask := func(domain string) (string, time.Duration) { // each time another name, which no cache has
		asked++
		begin := time.Now()
		out, _ := lab.Try(fmt.Sprintf("timeout 3 busybox nslookup -type=a n%d.%s 127.0.0.53", asked, domain))
		return out, time.Since(begin)
	}
	resolves := func() bool {
		out, _ := ask("lan.example")
		return strings.Contains(out, "192.0.2.77")
	}
	right := func(when string) {
		t.Helper()
		lab.Eventually(t, 3*time.Second, "a name "+when, resolves)
		for range 5 {
			if !resolves() {
				t.Errorf("no name %s:\n%s", when, lab.Sh(t, "resolvectl status"))
			}
		}
		if out, took := ask("none.example"); !strings.Contains(out, "NXDOMAIN") || took > time.Second {
			t.Errorf("a name that does not exist, %s: after %s\n%s", when, took, out)
		}
	}
	lab.Eventually(t, 10*time.Second, "the LAN's name server", resolves)
	right("before")
	r := mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge}, "web", port(1))
	right("on the bridge")
	time.Sleep(2 * time.Second) // a client may change its mind
	right("on the bridge, later")
	mustLeave(t, r)
	right("afterwards")
	time.Sleep(2 * time.Second)
	right("afterwards, later")
}
