package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNamespaceIsEmpty(t *testing.T) {
	Run(t, func(t *testing.T) {
		links, err := os.ReadDir("/sys/class/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Name(), "eth") {
				t.Errorf("the machine's %s is here", l.Name())
			}
		}
		Uplink(t)
		if !Pings("", "203.0.113.1") {
			t.Error("no way to the stand-in for the Internet")
		}
	})
}

// Each kind of leftover is seen, so that Check can fail.
func TestSnapshotSeesLeftovers(t *testing.T) {
	Run(t, func(t *testing.T) {
		Uplink(t)
		dir := t.TempDir()
		for name, c := range map[string]struct{ do, undo, want string }{
			"link":    {"ip link add b0 type bridge", "ip link del b0", "+ link: "},
			"alias":   {"ip link set eth0 alias x", `ip link set eth0 alias ""`, "+ link: "},
			"address": {"ip addr add 10.0.0.1/24 dev eth0", "ip addr del 10.0.0.1/24 dev eth0", "+ addr: "},
			"route":   {"ip route add 10.9.0.0/16 via 192.0.2.1 table 7", "ip route del 10.9.0.0/16 table 7", "+ route: "},
			"rule":    {"ip rule add from 10.9.0.0/16 lookup 7", "ip rule del from 10.9.0.0/16 lookup 7", "+ rule: "},
			"nft":     {"nft add table inet x", "nft delete table inet x", "+ nft: "},
			"sysctl":  {"sysctl -qw net/ipv4/conf/eth0/forwarding=1", "sysctl -qw net/ipv4/conf/eth0/forwarding=0", "+ sysctl: "},
			"file":    {"touch " + filepath.Join(dir, "left"), "rm " + filepath.Join(dir, "left"), "+ file: "},
		} {
			before := Snapshot(t, dir)
			Sh(t, c.do)
			if diff := Diff(before, Snapshot(t, dir)); !strings.Contains(diff, c.want) {
				t.Errorf("%s: got %q, want %q", name, diff, c.want)
			}
			Sh(t, c.undo)
			before.Check(t)
		}
	})
}

// A host on the LAN gets what the LAN offers, and a break is measured.
func TestLAN(t *testing.T) {
	Run(t, func(t *testing.T) {
		Require(t, Program("dnsmasq"), Program("radvd"), Program("busybox"))
		lan := NewLAN(t, LANOptions{Static: true, DHCP: true, Renew: 3 * time.Second, RA: true})
		if out := Sh(t, "busybox udhcpc -i eth0 -n -q -f -s /bin/true 2>&1"); !strings.Contains(out, "lease of 192.0.2.1") {
			t.Errorf("no lease: %s", out)
		}
		if log := lan.DHCPLog(); !strings.Contains(log, "DHCPACK(eth0)") {
			t.Errorf("the server's log has no lease:\n%s", log)
		}
		if lan.AwaitSLAAC("eth0"); !Pings("", LANInternet) || !Pings("", LANInternet6) || !Pings("outside", LANHost) {
			t.Error("no way to the Internet, or from outside")
		}
		pings, talk := PingFrom(t, "outside", LANHost), Talk(t, "outside", LANHost)
		time.Sleep(300 * time.Millisecond)
		lan.Cable("host", false)
		time.Sleep(200 * time.Millisecond)
		lan.Cable("host", true)
		time.Sleep(500 * time.Millisecond)
		c, d := pings(), talk()
		if c.Lost < 5 || c.Lost > c.Sent/2 || c.Gap < 150*time.Millisecond || d.Gap < 150*time.Millisecond || d.Lost != 0 {
			t.Errorf("a break of 200 ms was measured as %s, and %s", c, d)
		}
		lan.PortSecurity("02:00:00:00:00:01")
		if Pings("outside", LANHost) {
			t.Error("port security lets the host's MAC pass")
		}
	})
}
