package cli

import (
	"fmt"
	"net/netip"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) ipCommand() *cli.Command {
	return &cli.Command{
		Name: "ip", Usage: "print the address a VM uses", ArgsUsage: "NAME",
		Description: "In every mode, from what the guest showed on its NIC: its lease, or its ARP and ND frames.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON: all addresses of all NICs"}},
		Action:      a.ip,
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
}

// unseen is why a VM's address will never be known.
const unseen = "it has no NIC on one of qnet's networks, so qnet sees no address of it"

// noAddress tells that a VM shows no address: not yet, or never.
type noAddress struct {
	name, stage string
	never       bool
}

// Error tells how far the guest has got.
func (e *noAddress) Error() string {
	if e.never {
		return fmt.Sprintf("find address of VM %q: %s", e.name, unseen)
	}
	return fmt.Sprintf("find address of VM %q: it has none yet; its guest's last sign: %s", e.name, e.stage)
}

func (a *app) ip(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	s, _, err := a.find(c.Context, args[0])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		list := []nicAddresses{}
		for _, n := range s.NICs {
			addresses := n.Addresses()
			if addresses == nil {
				addresses = []netip.Addr{}
			}
			list = append(list, nicAddresses{n.Index, n.Mode, n.Network, n.MAC, n.Address, addresses, n.Seen.Last().String()})
		}
		return a.json(list)
	}
	n, address := firstAddress(s)
	if !address.IsValid() {
		return &noAddress{args[0], n.Seen.Last().String(), s.State == control.Running && !hasNetwork(s)}
	}
	fmt.Fprintln(a.Stdout, address)
	return nil
}

// firstAddress is the address of the first NIC that has one that others can
// use; without any, the NIC that got furthest.
func firstAddress(s control.State) (control.NIC, netip.Addr) {
	var furthest control.NIC
	for _, n := range s.NICs {
		if list := n.Addresses(); len(list) > 0 && !list[0].IsLinkLocalUnicast() {
			return n, list[0]
		}
		if n.Seen.Last() > furthest.Seen.Last() || furthest.Mode == "" {
			furthest = n
		}
	}
	return furthest, netip.Addr{}
}
