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
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON: all addresses of all NICs"}},
		Action:      g.ip,
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

// noAddress tells that a VM has shown no address yet, or that qnet never sees one.
type noAddress struct {
	name, stage string
	never       bool
}

// Error tells how far the guest has come.
func (e *noAddress) Error() string {
	if e.never {
		return fmt.Sprintf("find address of VM %q: %s", e.name, reach.Unseen)
	}
	return fmt.Sprintf("find address of VM %q: it has none yet; its guest's last sign: %s", e.name, e.stage)
}

// addressesOf returns what `qnet ip --json` prints.
func addressesOf(s control.State) []nicAddresses {
	list := []nicAddresses{}
	for _, n := range s.NICs {
		addresses := append([]netip.Addr{}, n.Addresses()...) // not null
		list = append(list, nicAddresses{n.Index, n.Mode, n.Network, n.MAC, n.Address, addresses, n.Seen.Last().String()})
	}
	return list
}

// Hint names the command that waits for an address.
func (e *noAddress) Hint() string {
	if e.never {
		return ""
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
	if !address.IsValid() {
		return &noAddress{args[0], n.Seen.Last().String(), s.Launched() && !reach.HasNetwork(s)}
	}
	fmt.Fprintln(g.Stdout, address)
	return nil
}
