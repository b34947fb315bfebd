package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Addresses of a LAN. LANInternet is beyond the gateway.
const (
	LANHost     = "192.0.2.10"
	LANGateway  = "192.0.2.1"
	LANOutside  = "192.0.2.20"
	LANInternet = "203.0.113.1"

	LANPrefix6   = "2001:db8:2::/64"
	LANGateway6  = "2001:db8:2::1"
	LANOutside6  = "2001:db8:2::20"
	LANInternet6 = "2001:db8:ffff::1"
)

// LANOptions choose what a LAN has besides its switch, gateway and outside host.
type LANOptions struct {
	Static bool          // eth0 has LANHost and a default route
	DHCP   bool          // the gateway leases 192.0.2.100 to 192.0.2.199
	Lease  time.Duration // dnsmasq's least is 2m; 0 is 1h
	Renew  time.Duration // T1, after which clients renew; 0 is half the lease
	RA     bool          // the gateway advertises itself and LANPrefix6 every 3 to 4 s
}

// LAN is a network around the test's namespace, which is a host on it by eth0:
//
//	host: eth0 --- lan: host0  switch  gateway0 --- gateway: eth0, lo (the Internet)
//	                           outside0         --- outside: eth0
//
// lan, gateway and outside are namespaces.
type LAN struct {
	t   testing.TB
	dir string
}

// NewLAN makes a LAN. Its servers end with the test.
func NewLAN(t testing.TB, o LANOptions) *LAN {
	t.Helper()
	l := &LAN{t: t, dir: t.TempDir()}
	Sh(t, `
ip netns add lan
ip netns add gateway
ip netns add outside
ip -n lan link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0
ip -n lan link set switch addrgenmode none up
ip link add eth0 type veth peer name host0 netns lan
ip -n gateway link add eth0 type veth peer name gateway0 netns lan
ip -n outside link add eth0 type veth peer name outside0 netns lan
for port in host0 gateway0 outside0; do ip -n lan link set $port addrgenmode none master switch up; done
for ns in gateway outside; do ip -n $ns link set lo up; ip netns exec $ns sysctl -qw net/ipv6/conf/eth0/accept_ra=0; ip -n $ns link set eth0 up; done
ip netns exec gateway sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1
ip -n gateway addr add `+LANGateway+`/24 dev eth0
ip -n gateway addr add `+LANGateway6+`/64 dev eth0 nodad
ip -n gateway addr add `+LANInternet+`/32 dev lo
ip -n gateway addr add `+LANInternet6+`/128 dev lo
ip -n outside addr add `+LANOutside+`/24 dev eth0
ip -n outside addr add `+LANOutside6+`/64 dev eth0 nodad`)
	if !o.RA {
		Sh(t, "ip link set eth0 addrgenmode none")
	}
	Sh(t, "ip link set eth0 up")
	if o.Static {
		Sh(t, "ip addr add "+LANHost+"/24 dev eth0; ip route add default via "+LANGateway)
	}
	if o.DHCP {
		l.serveDHCP(o)
	}
	if o.RA {
		l.advertise()
		l.AwaitSLAAC("eth0")
	}
	return l
}

func (l *LAN) path(name string) string { return filepath.Join(l.dir, name) }

func (l *LAN) serveDHCP(o LANOptions) {
	l.t.Helper()
	Require(l.t, Program("dnsmasq"))
	lease := max(o.Lease, 2*time.Minute)
	if o.Lease == 0 {
		lease = time.Hour
	}
	args := []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=", "--pid-file=", "--port=0", "--interface=eth0",
		"--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--log-dhcp", "--log-facility=" + l.path("dnsmasq.log"),
		"--dhcp-leasefile=" + l.path("leases"), "--dhcp-option=option:dns-server," + LANGateway,
		fmt.Sprintf("--dhcp-range=192.0.2.100,192.0.2.199,255.255.255.0,%ds", int(lease.Seconds())),
	}
	if o.Renew != 0 {
		args = append(args, fmt.Sprintf("--dhcp-option-force=option:T1,%d", int(o.Renew.Seconds())))
	}
	l.Daemon("gateway", args...)
	servesDHCP(l.t, "gateway")
}

// DHCPLog returns what the DHCP server has logged so far.
func (l *LAN) DHCPLog() string {
	b, _ := os.ReadFile(l.path("dnsmasq.log"))
	return string(b)
}

// LeaseFile is the path of the file in which the DHCP server keeps its leases. Each
// line has the end of a lease, MAC, address, name and client identifier.
func (l *LAN) LeaseFile() string { return l.path("leases") }

func (l *LAN) advertise() {
	l.t.Helper()
	Require(l.t, Program("radvd"))
	config := `interface eth0 {
	AdvSendAdvert on;
	MinRtrAdvInterval 3;
	MaxRtrAdvInterval 4;
	AdvDefaultLifetime 1800;
	prefix ` + LANPrefix6 + ` { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };
};
`
	if err := os.WriteFile(l.path("radvd.conf"), []byte(config), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.Daemon("gateway", "radvd", "--nodaemon", "--config", l.path("radvd.conf"), "--pidfile", l.path("radvd.pid"), "--logmethod", "stderr")
}

// AwaitSLAAC waits until the link has an address of LANPrefix6 and a default route
// by RA, and returns the address.
func (l *LAN) AwaitSLAAC(link string) string {
	l.t.Helper()
	var address string
	Eventually(l.t, 15*time.Second, "an address by SLAAC", func() bool {
		out, _ := Try("ip -6 -o addr show dev " + link + " scope global -tentative | sed -n 's/.* inet6 \\([^/]*\\).*/\\1/p'; ip -6 route show default dev " + link)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		address = lines[0]
		return len(lines) > 1 && strings.HasPrefix(address, "2001:db8:2:")
	})
	return address
}

// Daemon runs a program in a namespace ("" is the host). stop, and the test's end,
// kill the program and wait for its end.
func (l *LAN) Daemon(ns string, args ...string) (stop func()) {
	l.t.Helper()
	if ns != "" {
		args = append([]string{"ip", "netns", "exec", ns}, args...)
	}
	log, err := os.Create(l.path(strings.ReplaceAll(args[len(args)-1], "/", "_") + ".out"))
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	wait, err := Start(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	stop = func() {
		cmd.Process.Kill()
		wait()
	}
	l.t.Cleanup(func() {
		stop()
		log.Close()
		if b, _ := os.ReadFile(log.Name()); l.t.Failed() && len(b) > 0 {
			l.t.Logf("%v:\n%s", args, b)
		}
	})
	return stop
}

// Cable plugs or pulls the cable of a port of the switch: host, gateway or outside.
func (l *LAN) Cable(port string, plugged bool) {
	l.t.Helper()
	Sh(l.t, "ip -n lan link set "+port+"0 "+map[bool]string{true: "up", false: "down"}[plugged])
}

// PortSecurity makes the switch drop frames that the host sends from another MAC.
func (l *LAN) PortSecurity(mac string) {
	l.t.Helper()
	Sh(l.t, `ip netns exec lan nft -f - <<'EOF'
table netdev security {
	chain host {
		type filter hook ingress device "host0" priority 0; policy accept;
		ether saddr != `+mac+` drop
	}
}
EOF`)
}
