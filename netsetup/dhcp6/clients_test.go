package dhcp6

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/internal/packet"
)

// guestOf makes the test's namespace a guest, whose eth0 is on the bridge of the namespace
// "host", where a firewall drops whatever comes in and goes out. It serves there.
func guestOf(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	lab.Require(t, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, `
ip netns add host
ip link add eth0 address 52:54:01:00:00:01 type veth peer name veth0 netns host
ip netns exec host sh -e <<'EOF'
ip link add br0 address 52:54:00:00:00:01 type bridge mcast_snooping 0
for key in accept_ra autoconf; do echo 0 > /proc/sys/net/ipv6/conf/br0/$key; done
ip link set veth0 addrgenmode none
ip link set veth0 master br0 up
ip link set br0 up
ip addr add fd77:1:2:3::1/64 dev br0 nodad
nft -f - <<'END'
table inet foreign {
	chain in { type filter hook input priority 0; policy drop; }
	chain out { type filter hook output priority 0; policy drop; }
}
END
EOF`)
		s := newServer(t, func(c *Config) { c.Router, c.MTU = true, 1400 })
		lab.InNamespace(t, "host", func() error {
			link, err := net.InterfaceByName("br0")
			if err != nil {
				return err
			}
			s.c.Link = link.Index
			return s.Listen()
		})
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		f(t, s)
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// global are the addresses of eth0 that are no link's own, and that are not tentative.
func global(t *testing.T) (list []netip.Prefix) {
	t.Helper()
	for line := range strings.Lines(lab.Sh(t, "ip -6 -o addr show dev eth0 scope global -tentative")) {
		p, err := netip.ParsePrefix(strings.Fields(line)[3])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// Every client has, in a few seconds, an address of the prefix, a default route by the host and
// the MTU; those that speak DHCPv6 the reserved address as well, and those that can use it the
// name server.
func TestRealClients(t *testing.T) {
	for name, c := range map[string]struct {
		needs []lab.Need
		run   func(t *testing.T, dir string)
		lease bool
		slaac bool
		dns   func(t *testing.T, dir string) string // says what the client knows of DNS
	}{
		"kernel":         {nil, func(t *testing.T, _ string) { lab.Sh(t, "ip link set eth0 up") }, false, true, nil},
		"networkd":       {programs.NetworkdNeeds, networkd, true, true, networkdDNS},
		"dhcpcd":         {[]lab.Need{lab.Root, lab.Program("dhcpcd")}, dhcpcd, true, true, clientsDNS},
		"dhclient":       {[]lab.Need{lab.Root, lab.Program("dhclient")}, dhclient, true, true, clientsDNS},
		"NetworkManager": {programs.NetworkManagerNeeds(), networkManager, true, true, nmDNS},
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, c.needs...)
			guestOf(t, func(t *testing.T, s *Server) {
				dir := lab.Dir(t)
				begin := time.Now()
				c.run(t, dir)
				lab.Eventually(t, 20*time.Second, "addresses", func() bool {
					list := global(t)
					_, taken := s.Taken(hw(1))
					return taken == c.lease && slices.Contains(list, netip.PrefixFrom(address, 128)) == c.lease &&
						slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 64 && prefix.Contains(p.Addr()) }) == c.slaac
				})
				lab.Eventually(t, 10*time.Second, "the route and the MTU", func() bool {
					out, _ := lab.Try("ip -6 route show default; ip -6 route show fd77:1:2:3::/64; cat /proc/sys/net/ipv6/conf/eth0/mtu")
					return strings.Contains(out, "default via fe80::5054:ff:fe00:1 ") && strings.Contains(out, "1400")
				})
				t.Logf("after %s: %v\n%s", time.Since(begin).Round(10*time.Millisecond), global(t), lab.Sh(t, "ip -6 route"))
				if c.dns != nil {
					said := ""
					lab.Eventually(t, 10*time.Second, "the name server", func() bool {
						said = c.dns(t, dir)
						return strings.Contains(said, "fd77:1:2:3::1") && strings.Contains(said, "qnet")
					})
				}
			})
		})
	}
}

func networkd(t *testing.T, _ string) {
	programs.Networkd(t, map[string]string{"eth0.network": "[Match]\nName=eth0\n[Network]\nDHCP=yes\n[DHCPv6]\nUseDomains=yes\n[IPv6AcceptRA]\nUseDomains=yes\n"}, false)
}

func networkdDNS(*testing.T, string) string {
	out, _ := lab.Try("cat /run/systemd/netif/links/*")
	return out
}

// pidNamespace runs a script of a client in the foreground, whose helpers end with it.
func pidNamespace(t *testing.T, dir, script string) {
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lab.Daemon(t, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "sh", "-ec",
		"dir="+dir+"; mount --bind $dir/resolv.conf /etc/resolv.conf\n"+script+"\nexit 0")
}

func dhcpcd(t *testing.T, dir string) {
	pidNamespace(t, dir, `for d in /run /var/lib; do mount -t tmpfs tmpfs $d; done
mkdir /run/dhcpcd; install -d -o dhcpcd /var/lib/dhcpcd; { grep -v ^hostname /etc/dhcpcd.conf; echo nodev; echo env dir=`+dir+`; } > $dir/conf
dhcpcd -6 -B -f $dir/conf eth0`)
}

func dhclient(t *testing.T, dir string) {
	lab.Sh(t, "ip link set eth0 up")
	lab.Eventually(t, 5*time.Second, "a link-local address", func() bool {
		out, _ := lab.Try("ip -6 -o addr show dev eth0 scope link -tentative")
		return out != ""
	})
	pidNamespace(t, dir, "dhclient -6 -d -pf $dir/pid -lf $dir/leases eth0")
}

func clientsDNS(t *testing.T, dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "resolv.conf"))
	return string(b)
}

func networkManager(t *testing.T, _ string) {
	programs.NetworkManager(t, "[connection]\nipv4.method=disabled\n")
}

func nmDNS(*testing.T, string) string {
	out, _ := programs.NMCLI("-t -f IP6 device show eth0")
	return out
}

// The kernel's guest follows at once when the host's way out goes and comes, and when the
// network ends.
func TestKernelFollows(t *testing.T) {
	guestOf(t, func(t *testing.T, s *Server) {
		lab.Sh(t, "ip link set eth0 up")
		routed := func() bool { return lab.Sh(t, "ip -6 route show default") != "" }
		lab.Eventually(t, 10*time.Second, "the default route and an address", func() bool { return routed() && len(global(t)) > 0 })
		s.SetRouter(false)
		lab.Eventually(t, 2*time.Second, "no default route", func() bool { return !routed() })
		if len(global(t)) == 0 {
			t.Error("the address is gone")
		}
		s.SetRouter(true)
		lab.Eventually(t, 2*time.Second, "the default route again", routed)
		s.End()
		lab.Eventually(t, 2*time.Second, "no default route, and a prefix that is not to be used", func() bool {
			out := lab.Sh(t, "ip -6 addr show dev eth0 scope global")
			return !routed() && strings.Contains(out, "deprecated")
		})
		if want := packet.EUI64(prefix, hw(1)); !slices.Contains(global(t), netip.PrefixFrom(want, 64)) {
			t.Errorf("%v, want %s", global(t), want)
		}
	})
}
