package nstest

import (
	"strings"
	"testing"
)

// Lab gives the namespace a network around it: eth0 192.0.2.10 with a default
// route to the namespace "inet", which has 192.0.2.1 on lan0 and stands for the
// Internet with 203.0.113.1.
func Lab(t testing.TB) {
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

// Guest makes a namespace with the name that plays a VM: a veth whose host end
// is a port of the bridge. address and gateway may be "".
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
