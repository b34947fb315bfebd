package lab

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Uplink gives the host an uplink: eth0 with 192.0.2.10 and a default route to the
// namespace "inet". inet has 192.0.2.1 on lan0, and 203.0.113.1 as an address of the
// Internet.
func Uplink(t testing.TB) {
	t.Helper()
	Sh(t, `
ip netns add inet
ip link add eth0 type veth peer name lan0 netns inet
ip -n inet link set lo up
ip -n inet link set lan0 addrgenmode none up
ip link set eth0 addrgenmode none up
ip -n inet addr add 192.0.2.1/24 dev lan0
ip -n inet addr add 203.0.113.1/32 dev lo
ip addr add 192.0.2.10/24 dev eth0
ip route add default via 192.0.2.1`)
}

// FreeNIC gives the host a second NIC, lan0. lan0 is down and has no address. Its LAN is
// the namespace "lan" with 198.51.100.1, and 203.0.113.1 as an address of the Internet.
// One dnsmasq in lan serves DHCP, and DNS for example.com. It writes leases and
// dnsmasq.pid to dir.
func FreeNIC(t testing.TB, dir string) {
	t.Helper()
	Require(t, Program("dnsmasq"))
	Sh(t, `
ip netns add lan
ip link add lan0 type veth peer name port0 netns lan
ip link set lan0 addrgenmode none up
ip link set lan0 down
ip -n lan link set lo up
ip -n lan link set port0 addrgenmode none up
ip -n lan addr add 198.51.100.1/24 dev port0
ip -n lan addr add 203.0.113.1/32 dev lo`)
	Daemon(t, "ip", "netns", "exec", "lan", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=",
		"--interface=port0", "--bind-interfaces", "--no-ping", "--no-resolv", "--no-hosts", "--address=/example.com/198.51.100.7",
		"--dhcp-range=198.51.100.50,198.51.100.99,1h", "--dhcp-authoritative", "--dhcp-leasefile="+filepath.Join(dir, "leases"),
		"--pid-file="+filepath.Join(dir, "dnsmasq.pid"))
	servesDHCP(t, "lan")
}

// servesDHCP waits until a DHCP server listens in a namespace.
func servesDHCP(t testing.TB, ns string) {
	t.Helper()
	Eventually(t, 10*time.Second, "dnsmasq listens", func() bool {
		out, _ := Try("ip netns exec " + ns + " cat /proc/net/udp")
		return strings.Contains(out, ":0043 ") // port 67
	})
}

// Guest makes a namespace that stands for a VM: its eth0 is the peer of a port of the
// bridge. address and gateway may be "".
func Guest(t testing.TB, name, bridge, address, gateway string) {
	t.Helper()
	Sh(t, `
ip netns add `+name+`
ip link add eth0 netns `+name+` type veth peer name v`+name+`
ip link set v`+name+` addrgenmode none
ip link set v`+name+` master `+bridge+` up
ip -n `+name+` link set lo up
ip -n `+name+` link set eth0 up`)
	if address != "" {
		Sh(t, "ip -n "+name+" addr add "+address+" dev eth0")
	}
	if gateway != "" {
		Sh(t, "ip -n "+name+" route add default via "+gateway)
	}
}

// Pings reports whether a namespace reaches an address; "" is the host.
func Pings(from, to string) bool {
	cmd := "ping -n -c1 -W1 " + to
	if from != "" {
		cmd = "ip netns exec " + from + " " + cmd
	}
	_, err := Try(cmd)
	return err == nil
}

// Fetches reports whether a web server at HOST:PORT answers a namespace; "" is
// the host.
func Fetches(from, address string) bool {
	cmd := "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 2 "
	if from != "" {
		cmd += "ip netns exec " + from + " "
	}
	host, port, _ := strings.Cut(address, ":")
	out, _ := Try(cmd + "busybox nc -w 1 " + host + " " + port)
	return strings.Contains(out, "HTTP/")
}
