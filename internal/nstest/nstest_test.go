package nstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		Lab(t)
		if !Pings("", "203.0.113.1") {
			t.Error("no way to the stand-in for the Internet")
		}
	})
}

// Each kind of leftover is seen, so that Check can fail.
func TestSnapshotSeesLeftovers(t *testing.T) {
	Run(t, func(t *testing.T) {
		Lab(t)
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
