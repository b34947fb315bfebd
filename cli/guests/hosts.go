package guests

import (
	"fmt"
	"net/netip"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

func (g guests) hostsCommand() *cli.Command {
	return &cli.Command{Name: "hosts", Usage: "print addresses and names of the VMs, as lines for /etc/hosts", Action: g.hosts}
}

func (g guests) hosts(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	states, _, err := g.Places.List(c.Context)
	if err != nil {
		return err
	}
	for _, s := range states {
		for _, address := range []netip.Addr{hostAddress(s), hostAddress6(s)} {
			if address.IsValid() {
				fmt.Fprintf(g.Stdout, "%s\t%s.%s %s\n", address, s.Name, dns.Domain, s.Name)
			}
		}
	}
	return nil
}

// hostAddress returns the address of the first NIC that has one: the reserved one, which
// the guest may not use yet, or one that the guest has shown and that is not link-local.
func hostAddress(s control.State) netip.Addr {
	for _, n := range s.NICs {
		if n.Address.IsValid() {
			return n.Address
		}
		if list := n.Addresses(); len(list) > 0 && !list[0].IsLinkLocalUnicast() {
			return list[0]
		}
	}
	return netip.Addr{}
}

// hostAddress6 returns the IPv6 address of the first NIC on a network with IPv6 whose guest uses
// one: a program that prefers IPv6 would wait for one that the guest lacks.
func hostAddress6(s control.State) netip.Addr {
	for _, n := range s.NICs {
		if list := n.IPv6(); n.Address6.IsValid() && len(list) > 0 {
			return list[0]
		}
	}
	return netip.Addr{}
}
