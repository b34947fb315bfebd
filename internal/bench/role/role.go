// Package role holds the servers and clients that a bench measures in processes of
// their own: qnet's DHCP and DNS servers, and the clients of these and of dnsmasq.
package role

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/qnet-vm/qnet/internal/bench/lease"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

// Verb is the first argument of a process that plays a role.
const Verb = "play"

// Bridge is the bridge of the servers.
const Bridge = "sb0"

const (
	clients = 400 // leases of a round
	window  = 16  // clients and queries at a time
)

// Prefix and Address are the bridge's.
var (
	Prefix  = netip.MustParsePrefix("10.98.0.0/20")
	Address = netip.MustParseAddr("10.98.0.1")
)

// Command is this program in a role, in a network namespace or "" for the host's.
func Command(netns string, role ...string) []string {
	argv := append([]string{"/proc/self/exe", Verb}, role...)
	if netns != "" {
		path, err := os.Executable()
		if err == nil {
			argv[0] = path
		}
		argv = append([]string{"ip", "netns", "exec", netns}, argv...)
	}
	return argv
}

// Play plays a role: of a server until an error, of a client until it has printed its
// figures.
func Play(role []string) error {
	switch role[0] {
	case "dhcp-server":
		return serveDHCP(role[1])
	case "dns-server":
		return serveDNS()
	case "upstream":
		return serveUpstream(role[1])
	case "leases":
		return takeLeases(role[1])
	case "queries":
		return ask(role[1])
	}
	return fmt.Errorf("no role %q", role[0])
}

func serveDHCP(leaseFile string) error {
	link, err := net.InterfaceByName(Bridge)
	if err != nil {
		return err
	}
	server, err := dhcp.New(dhcp.Config{
		Link: link.Index, MAC: link.HardwareAddr, Prefix: Prefix, Address: Address,
		Router: true, Domain: dns.Domain, MTU: 1500, LeaseFile: leaseFile, Warn: func(string) {},
	})
	if err != nil {
		return err
	}
	for i := range clients {
		if _, err := server.Reserve(clientMAC(i), netip.Addr{}, fmt.Sprintf("vm%d", i)); err != nil {
			return err
		}
	}
	if err := server.Listen(); err != nil {
		return err
	}
	return server.Serve()
}

func clientMAC(i int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0, 0xbe, byte(i >> 8), byte(i)}
}

// takeLeases prints the leases taken per second.
func takeLeases(name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	var macs []net.HardwareAddr
	for i := range clients {
		macs = append(macs, clientMAC(i))
	}
	took, err := lease.Take(link.Index, macs, window)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%f\n", clients/took.Seconds())
	return nil
}
