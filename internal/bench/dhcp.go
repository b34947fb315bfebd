package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	"github.com/qnet-vm/qnet/internal/bench/role"
)

// withServiceBridge runs f with a bridge for servers, whose only port leads to the
// namespace "client".
func (b *bench) withServiceBridge(f func() error) error {
	err := rig.Sh(`
ip link add ` + role.Bridge + ` type bridge forward_delay 0 mcast_snooping 0
ip addr add ` + role.Address.String() + `/20 dev ` + role.Bridge + `
ip netns add client
ip link add sv0 master ` + role.Bridge + ` up type veth peer name eth0 netns client
ip link set ` + role.Bridge + ` up
ip -n client link set lo up
ip -n client addr add 10.98.0.2/20 dev eth0
ip -n client link set eth0 up`)
	if err != nil {
		return err
	}
	err = f()
	if undone := rig.Sh("ip link del sv0; ip link del " + role.Bridge + "; ip netns del client"); err == nil {
		err = undone
	}
	return err
}

// serverUp is the time that a server has to open its socket.
const serverUp = 300 * time.Millisecond

// dhcp measures against dnsmasq: leases per second, and a guest's first lease.
func (b *bench) dhcp() error {
	err := b.withServiceBridge(func() error {
		rate := func(argv func() []string) contest.Side {
			return func() ([]float64, error) {
				server, err := rig.Background(argv()...)
				if err != nil {
					return nil, err
				}
				defer server.Stop()
				time.Sleep(serverUp)
				return rig.Figures(role.Command("client", "leases", "eth0")...)
			}
		}
		file := filepath.Join(b.Dir, "leases")
		return b.Contest([]contest.Row{{What: "leases per second, 16 clients at a time", Against: "dnsmasq", Unit: "/s", Least: 1}},
			rate(func() []string { os.Remove(file); return role.Command("", "dhcp-server", file) }),
			rate(func() []string {
				os.Remove(file)
				return b.dnsmasqDHCP(role.Bridge, file, "10.98.1.0,10.98.9.250")
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
	closeTun, err := b.OpenTun()
	if err != nil {
		return err
	}
	defer closeTun()
	stop, err := b.RecipeTap("tga", "ga", true)
	if err != nil {
		return err
	}
	defer stop()
	server, err := rig.Background(b.dnsmasqDHCP("rbr0", filepath.Join(b.Dir, "leases"), "192.168.77.20,192.168.77.200")...)
	if err != nil {
		return err
	}
	defer server.Stop()
	guests, err := rig.Boot(b.QnetVM, rig.Spec{
		Name: "ga", Mode: "nat", Sandbox: "off", Extra: rig.HandMade("tga", "52:54:00:01:02:0a"), Cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.10/24",
	})
	if err != nil {
		return err
	}
	defer rig.KillAll(guests)
	return b.Contest([]contest.Row{{What: "lease, DISCOVER to ACK as the guest sees it", Against: "dnsmasq on the recipe's bridge", Unit: "ms", Most: 1, Rounds: near}},
		figure(guests[0], "wire lease eth0"), figure(guests[0], "wire lease eth1"))
}
