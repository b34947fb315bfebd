package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/lease"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

// The services are measured on a bridge of their own, sb0, which has a client in
// the namespace "client" as its port.
const (
	serviceBridge = "sb0"
	clients       = 400 // leases of a round
	window        = 16  // clients and queries at a time
)

var (
	servicePrefix  = netip.MustParsePrefix("10.98.0.0/20")
	serviceAddress = netip.MustParseAddr("10.98.0.1")
)

func (b *bench) withServiceBridge(f func() error) error {
	err := sh(`
ip link add ` + serviceBridge + ` type bridge forward_delay 0 mcast_snooping 0
ip addr add ` + serviceAddress.String() + `/20 dev ` + serviceBridge + `
ip netns add client
ip link add sv0 master ` + serviceBridge + ` up type veth peer name eth0 netns client
ip link set ` + serviceBridge + ` up
ip -n client link set lo up
ip -n client addr add 10.98.0.2/20 dev eth0
ip -n client link set eth0 up`)
	if err != nil {
		return err
	}
	err = f()
	if undone := sh("ip link del sv0; ip link del " + serviceBridge + "; ip netns del client"); err == nil {
		err = undone
	}
	return err
}

// self is this program in one of the roles of play.
func self(netns string, role ...string) []string {
	argv := append([]string{"/proc/self/exe", "play"}, role...)
	if netns != "" {
		path, err := os.Executable()
		if err == nil {
			argv[0] = path
		}
		argv = append([]string{"ip", "netns", "exec", netns}, argv...)
	}
	return argv
}

// play is the other end: a server or a client in a process of its own.
func play(role []string) error {
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
	link, err := net.InterfaceByName(serviceBridge)
	if err != nil {
		return err
	}
	server, err := dhcp.New(dhcp.Config{
		Link: link.Index, MAC: link.HardwareAddr, Prefix: servicePrefix, Address: serviceAddress,
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

// serverUp is what a server gets to open its socket.
const serverUp = 300 * time.Millisecond

// dhcp measures against dnsmasq: leases per second, and a guest's first lease.
func (b *bench) dhcp() error {
	err := b.withServiceBridge(func() error {
		rate := func(argv func() []string) side {
			return func() ([]float64, error) {
				server, err := background(argv()...)
				if err != nil {
					return nil, err
				}
				defer server.stop()
				time.Sleep(serverUp)
				return figures(self("client", "leases", "eth0")...)
			}
		}
		file := filepath.Join(b.dir, "leases")
		return b.contest([]row{{what: "leases per second, 16 clients at a time", against: "dnsmasq", unit: "/s", least: 1}},
			rate(func() []string { os.Remove(file); return self("", "dhcp-server", file) }),
			rate(func() []string {
				os.Remove(file)
				return b.dnsmasqDHCP(serviceBridge, file, "10.98.1.0,10.98.9.250")
			}))
	})
	if err != nil {
		return err
	}
	return b.firstLease()
}

func (b *bench) dnsmasqDHCP(bridge, file, addresses string) []string {
	return []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--interface=" + bridge, "--bind-interfaces",
		"--no-ping", "--dhcp-authoritative", "--dhcp-leasefile=" + file, "--dhcp-lease-max=5000", "--dhcp-range=" + addresses, "--quiet-dhcp",
		"--pid-file=", "--log-facility=/dev/null",
	}
}

// firstLease asks by two NICs of one guest, on qnet's network and on the recipe's.
func (b *bench) firstLease() error {
	if err := b.openTun(); err != nil {
		return err
	}
	defer sh("umount /dev/net/tun")
	stop, err := b.recipeTap("tga", true)
	if err != nil {
		return err
	}
	defer stop()
	server, err := background(b.dnsmasqDHCP("rbr0", filepath.Join(b.dir, "leases"), "192.168.77.20,192.168.77.200")...)
	if err != nil {
		return err
	}
	defer server.stop()
	guests, err := b.guests(b.qnetVM, spec{
		name: "ga", mode: "nat", extra: handMade("tga", "52:54:00:01:02:0a"), cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.10/24",
	})
	if err != nil {
		return err
	}
	defer stopAll(guests)
	return b.contest([]row{{what: "lease, DISCOVER to ACK as the guest sees it", against: "dnsmasq on the recipe's bridge", unit: "ms", most: 1, rounds: near}},
		guests[0].figure("wire lease eth0"), guests[0].figure("wire lease eth1"))
}
