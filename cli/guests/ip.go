package guests

import (
	"fmt"
	"net/netip"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/profiles"
)

func (g guests) ipCommand() *cli.Command {
	return &cli.Command{
		Name: "ip", Usage: "print the address a VM uses", ArgsUsage: "NAME",
		Description: "In every mode, from what the guest showed on its NIC: its lease, or its ARP and ND frames.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "6", Usage: "print an IPv6 address, the reserved one if the guest has it"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON: all addresses of all NICs"},
		},
		Action: g.ip,
	}
}

// nicAddresses is one NIC's part of `qnet ip --json`.
type nicAddresses struct {
	NIC       int           `json:"nic"`
	Mode      profiles.Mode `json:"mode"`
	Network   string        `json:"network,omitempty"`
	MAC       control.MAC   `json:"mac"`
	Reserved  netip.Addr    `json:"reserved,omitzero"`
	Addresses []netip.Addr  `json:"addresses"`
	Stage     string        `json:"stage"`
	Reserved6 netip.Addr    `json:"reserved6,omitzero"`
	IPv6      []netip.Addr  `json:"ipv6,omitempty"` // without link-local ones, the best first
}

// noAddress tells that a VM has shown no address yet, or that qnet never sees one.
type noAddress struct {
	name, stage string
	never       bool
	ipv6        bool // it is none of IPv6
	reserved    bool // and the network has one for the guest
}

// Error tells how far the guest has come.
func (e *noAddress) Error() string {
	if e.never {
		return fmt.Sprintf("find address of VM %q: %s", e.name, reach.Unseen)
	}
	if e.ipv6 {
		return fmt.Sprintf("find IPv6 address of VM %q: its guest has shown none that leads beyond its own link; its last sign: %s", e.name, e.stage)
	}
	return fmt.Sprintf("find address of VM %q: it has none yet; its guest's last sign: %s", e.name, e.stage)
}

// addressesOf returns what `qnet ip --json` prints.
func addressesOf(s control.State) []nicAddresses {
	list := []nicAddresses{}
	for _, n := range s.NICs {
		addresses := append([]netip.Addr{}, n.Addresses()...) // not null
		list = append(list, nicAddresses{n.Index, n.Mode, n.Network, n.MAC, n.Address, addresses, n.Seen.Last().String(), n.Address6, n.IPv6()})
	}
	return list
}

// Hint names the command that waits for an address.
func (e *noAddress) Hint() string {
	if e.never {
		return ""
	}
	if e.reserved {
		return "the network has one for the guest, which does not ask: \"ip -6 address\" in its console shows whether it has IPv6"
	}
	if e.ipv6 {
		return "host-only and nat networks have IPv6 with ipv6 = \"auto\" in [network.NAME]"
	}
	return fmt.Sprintf("qnet wait %s waits for it", e.name)
}

func (g guests) ip(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	s, _, err := g.Places.Find(c.Context, args[0])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return g.JSON(addressesOf(s))
	}
	n, address := reach.AddressOf(s)
	if c.Bool("6") {
		address = ipv6Of(s)
	}
	if !address.IsValid() {
		return &noAddress{args[0], n.Seen.Last().String(), s.Launched() && !reach.HasNetwork(s), c.Bool("6"), c.Bool("6") && n.Address6.IsValid()}
	}
	fmt.Fprintln(g.Stdout, address)
	return nil
}

// ipv6Of returns the first NIC's IPv6 address that has one.
func ipv6Of(s control.State) netip.Addr {
	for _, n := range s.NICs {
		if list := n.IPv6(); len(list) > 0 {
			return list[0]
		}
	}
	return netip.Addr{}
}
