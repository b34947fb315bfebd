package guests

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/relay"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles/ports"
)

func (g guests) forwardCommand() *cli.Command {
	return &cli.Command{
		Name: "forward", Usage: "lead ports of the host to a running VM, or list them", ArgsUsage: "add|rm|ls [NAME [PORTS...]]",
		Description: "PORTS are as in a profile: [ADDRESS:]PORT:GUEST[/udp]. Without ADDRESS the host alone reaches them, at\n127.0.0.1 and ::1; * is all its addresses. They last until the VM ends; ports in its profile come back.\n\nExample: qnet forward add web 8080:80 && curl http://localhost:8080",
		Flags: []cli.Flag{
			call.JSONFlag(),
			&cli.IntFlag{Name: "nic", Usage: "add: lead to NIC `N` of the profile, from 0 on; default: the first that takes ports", DefaultText: "none"},
		},
		Action: g.forward,
	}
}

func (g guests) forward(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 || args[0] != "ls" && args[0] != "add" && args[0] != "rm" {
		return &call.Usage{Text: "forward needs add, rm or ls; see qnet forward --help"}
	}
	if args[0] == "ls" {
		if len(args) > 2 {
			return &call.Usage{Text: fmt.Sprintf("forward ls takes no argument %q; see qnet forward --help", args[2])}
		}
		return g.listForwards(c, args[1:])
	}
	if len(args) < 3 {
		return &call.Usage{Text: fmt.Sprintf("forward %s needs NAME and PORTS; see qnet forward --help", args[0])}
	}
	asked := control.ForwardArgs{Ports: args[2:]}
	for _, text := range asked.Ports {
		if _, err := ports.Parse(text); err != nil {
			return &call.Usage{Text: fmt.Sprintf("forward %s: PORTS: %v", args[0], err)}
		}
	}
	if nic := c.Int("nic"); c.IsSet("nic") {
		asked.NIC = &nic
	}
	_, runDir, err := g.Places.Find(c.Context, args[1])
	if err != nil {
		return err
	}
	return control.Do(c.Context, runDir, args[1], control.Operation{Name: "forward " + args[0], Args: asked}, nil, control.DoOptions{})
}

// forwardRow is a forward of `qnet forward ls --json`.
type forwardRow struct {
	VM      string       `json:"vm"`
	NIC     int          `json:"nic"`
	Proto   string       `json:"proto"`
	Address string       `json:"address"` // "*" is all
	Port    uint16       `json:"port"`
	Guest   uint16       `json:"guest"`
	How     string       `json:"how"`
	Carried *relay.Count `json:"carried"` // null where QEMU does all
	DNAT    *uint64      `json:"dnat"`    // connections by DNAT; null where there is none, and without rights
}

func (g guests) listForwards(c *cli.Context, names []string) error {
	var states []control.State
	var err error
	if len(names) == 0 {
		states, _, err = g.Places.List(c.Context)
	} else {
		var s control.State
		s, _, err = g.Places.Find(c.Context, names[0])
		states = []control.State{s}
	}
	if err != nil {
		return err
	}
	byDNAT := g.byDNAT(c.Context)
	rows := []forwardRow{}
	for _, s := range states {
		for _, n := range s.NICs {
			for _, f := range n.Forwards {
				rows = append(rows, forwardRow{s.Name, n.Index, f.Proto, listens(f.Address), f.Port, f.Guest, f.How, f.Carried, byDNAT(s.Name, n.Index, f)})
			}
		}
	}
	if c.Bool("json") {
		return g.JSON(rows)
	}
	return g.Table("VM NIC PROTO ADDRESS PORT GUEST HOW CONNECTIONS BYTES DNAT", func(row call.Row) {
		for _, r := range rows {
			connections, bytes, dnat := "-", "-", "-"
			if r.DNAT != nil {
				dnat = strconv.FormatUint(*r.DNAT, 10)
			}
			if r.Carried != nil {
				connections, bytes = strconv.Itoa(r.Carried.Connections), strconv.FormatUint(r.Carried.In+r.Carried.Out, 10)
			}
			row(r.VM, r.NIC, r.Proto, r.Address, r.Port, r.Guest, r.How, connections, bytes, dnat)
		}
	})
}

// byDNAT asks the keepers, which let root ask, and returns what tells the connections of a forward.
func (g guests) byDNAT(ctx context.Context) func(vm string, nic int, f control.Forward) *uint64 {
	networks, _ := keeper.List(ctx, g.Places.Run) // without rights, none
	return func(vm string, nic int, f control.Forward) *uint64 {
		if f.How != keeper.ByDNAT {
			return nil
		}
		wanted := ports.Forward{Proto: f.Proto, Address: f.Address, Port: f.Port, Guest: f.Guest}
		for _, n := range networks {
			for _, v := range n.VMs {
				for _, p := range v.Ports {
					i := slices.IndexFunc(p.Forwards, func(have keeper.Forwarded) bool { return have.Forward == wanted })
					if v.Name == vm && p.NIC == nic && i >= 0 {
						return &p.Forwards[i].Connections
					}
				}
			}
		}
		return nil
	}
}

// listens is the address of a forward as a profile writes it, without brackets.
func listens(a netip.Addr) string {
	if !a.IsValid() {
		return "*"
	}
	return a.String()
}
