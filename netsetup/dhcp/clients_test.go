package dhcp

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// onBridge serves on a bridge in a namespace of the test's own, where a firewall
// drops whatever comes in, goes out and passes.
func onBridge(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	lab.Require(t, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, `
ip link add br0 address 52:54:00:00:00:01 type bridge mcast_snooping 0
ip link set br0 addrgenmode none up
ip addr add 10.91.0.1/24 dev br0
nft -f - <<'EOF'
table inet foreign {
	chain in { type filter hook input priority 0; policy drop; }
	chain out { type filter hook output priority 0; policy drop; }
	chain through { type filter hook forward priority 0; policy drop; }
}
EOF`)
		link, err := net.InterfaceByName("br0")
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(t, func(c *Config) { c.Link, c.MAC = link.Index, link.HardwareAddr })
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		f(t, s)
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// addressOf is what a client's namespace has on eth0.
func addressOf(t *testing.T, ns string) string {
	t.Helper()
	words := strings.Fields(lab.Sh(t, "ip -n "+ns+" -4 -o addr show dev eth0"))
	if len(words) < 4 {
		return ""
	}
	return words[3]
}

func macOf(t *testing.T, ns string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(strings.TrimSpace(lab.Sh(t, "ip netns exec "+ns+" cat /sys/class/net/eth0/address")))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Real clients get the reserved address, mask, router and resolver, through a
// firewall that drops all, and get it again when they renew.
func TestRealClients(t *testing.T) {
	for name, c := range map[string]struct {
		need   string
		script func(dir string) string // runs in the client's namespace until it has its address
	}{
		"udhcpc": {"busybox", func(dir string) string {
			return "busybox udhcpc -i eth0 -n -q -t 5 -T 1 -s " + dir + "/udhcpc"
		}},
		"dhclient": {"dhclient", func(dir string) string {
			// It goes into the background before it writes its process id.
			return "dhclient -1 -4 -sf " + dir + "/dhclient -lf " + dir + "/leases -pf " + dir + "/pid -cf /dev/null eth0 && " +
				"until test -s " + dir + "/pid; do sleep 0.01; done; kill $(cat " + dir + "/pid); rm -f " + dir + "/pid"
		}},
		"dhcpcd": {"dhcpcd", func(dir string) string {
			return "dhcpcd -4 -1 -B -t 10 --noarp -L -f /dev/null -c /bin/true eth0"
		}},
		"networkd": {networkd, func(dir string) string { return "sh -e " + dir + "/networkd " + dir }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.need == networkd {
				lab.Require(t, lab.Root) // it becomes a user of its own
			}
			lab.Require(t, lab.Program(c.need))
			onBridge(t, func(t *testing.T, s *Server) {
				dir := t.TempDir()
				script(t, dir, "udhcpc", "case $1 in bound|renew) ip addr replace $ip/$mask dev $interface; echo $router $dns $domain > "+dir+"/got ;; esac")
				script(t, dir, "dhclient", `case $reason in BOUND|RENEW|REBOOT) ip addr replace $new_ip_address/24 dev $interface
echo $new_routers $new_domain_name_servers $new_domain_name > `+dir+"/got ;; esac")
				script(t, dir, "networkd", runNetworkd)
				lab.Guest(t, "g", "br0", "", "")
				want, err := s.Reserve(macOf(t, "g"), netip.Addr{}, "web")
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // the second time the client asks for what it had
					lab.Sh(t, "ip netns exec g sh -c '"+c.script(dir)+"'")
					if got := addressOf(t, "g"); got != want.String()+"/24" {
						t.Errorf("got %q, want %s", got, want)
					}
				}
				if got, err := os.ReadFile(filepath.Join(dir, "got")); err == nil && string(got) != "10.91.0.1 10.91.0.1 qnet\n" {
					t.Errorf("options: %q", got)
				}
			})
		})
	}
}

const networkd = "/lib/systemd/systemd-networkd"

// runNetworkd has systemd-networkd take a lease, with the client identifier it
// takes by itself, and end without giving it back. A /sys that is read-only tells
// it that no udev will ever say that the link is ready.
const runNetworkd = `
mkdir -p /run/systemd
mount -t tmpfs none /run/systemd
mkdir /run/systemd/network
install -d -o systemd-network -g systemd-network /run/systemd/netif
cat > /run/systemd/network/eth0.network <<'EOF'
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
KeepConfiguration=dhcp-on-stop
EOF
mount -o remount,ro /sys
` + networkd + ` &
for i in $(seq 200); do
	! grep -qs ^DNS= /run/systemd/netif/leases/* || break
	sleep 0.05
done
. /run/systemd/netif/leases/*
echo $ROUTER $DNS $DOMAINNAME > $1/got
kill $!
wait $!`

func script(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A client that stays renews by unicast, and the server receives that although
// nothing listens on port 67.
func TestUnicastRenewal(t *testing.T) {
	onBridge(t, func(t *testing.T, s *Server) {
		dir := t.TempDir()
		script(t, dir, "udhcpc", "case $1 in bound|renew) ip addr replace $ip/$mask dev $interface; echo $1 >> "+dir+"/events ;; esac")
		lab.Guest(t, "g", "br0", "", "")
		client := exec.Command("ip", "netns", "exec", "g", "busybox", "udhcpc", "-f", "-i", "eth0", "-s", dir+"/udhcpc")
		if err := client.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			client.Process.Kill()
			client.Wait()
		}()
		lab.Eventually(t, 10*time.Second, "the lease", func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "events"))
			return strings.Contains(string(b), "bound")
		})
		client.Process.Signal(syscall.SIGUSR1) // renew now
		lab.Eventually(t, 10*time.Second, "the renewal", func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "events"))
			return strings.Contains(string(b), "renew")
		})
	})
}
