package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

func (a *app) netCommand() *cli.Command {
	return &cli.Command{
		Name: "net", Usage: "list networks: mode, bridge, prefix, uplinks, keeper, VMs, leases",
		Flags: []cli.Flag{call.JSONFlag(), &cli.BoolFlag{Name: "security", Usage: "show what confines each network's server of DHCP and DNS, and what is missing"}}, Action: a.net,
	}
}

func (a *app) net(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	infos, err := keeper.List(c.Context, a.Places.Run)
	if err != nil {
		return err
	}
	if a.Places.RootRun != "" {
		more, err := keeper.List(c.Context, a.Places.RootRun)
		if errors.Is(err, host.ErrNoPermission) {
			a.Talk("note: networks of root run; sudo qnet net lists them")
		} else if err != nil {
			return err
		}
		infos = append(infos, more...)
	}
	if c.Bool("json") {
		if infos == nil {
			infos = []keeper.Info{}
		}
		return a.JSON(infos)
	}
	if c.Bool("security") {
		return a.Table("NAME CONFINED MISSING", func(row call.Row) { clerkRows(row, infos) })
	}
	if err := a.Table("NAME MODE BRIDGE PREFIX UPLINKS KEEPER VMS", func(row call.Row) { networkRows(row, infos) }); err != nil {
		return err
	}
	if err := a.guards(infos); err != nil {
		return err
	}
	return a.leases(infos)
}

// clerkRows prints what confines the clerks of networks.
func clerkRows(row call.Row, infos []keeper.Info) {
	for _, n := range infos {
		if n.Clerk == nil {
			row(n.Name, "-", "-")
			continue
		}
		row(n.Name, n.Clerk, call.OrDash(n.Clerk.Lacks()))
	}
}

// guards prints the NICs that no guard watches, and what the guards of the others have
// dropped, and what was dropped of a whole network's.
func (a *app) guards(infos []keeper.Info) error {
	var rows [][]any
	for _, n := range infos {
		for _, d := range n.Dropped {
			rows = append(rows, []any{n.Name, "-", "-", d.Packets, d.Of})
		}
		for _, vm := range n.VMs {
			for _, p := range vm.Ports {
				if p.Unguarded {
					rows = append(rows, []any{n.Name, vm.Name, p.NIC, "-", `guard = "off"`})
				}
				for _, d := range p.Refused {
					rows = append(rows, []any{n.Name, vm.Name, p.NIC, d.Packets, d.Of})
				}
				for _, d := range p.Dropped {
					rows = append(rows, []any{n.Name, vm.Name, p.NIC, d.Packets, d.Of})
				}
			}
		}
	}
	if rows == nil {
		return nil
	}
	fmt.Fprintln(a.Stdout)
	return a.Table("NETWORK VM NIC DROPPED GUARD", func(row call.Row) {
		for _, r := range rows {
			row(r...)
		}
	})
}

func networkRows(row call.Row, infos []keeper.Info) {
	for _, n := range infos {
		prefix := ""
		if n.Prefix.IsValid() {
			prefix = n.Prefix.String()
		}
		if n.Prefix6.IsValid() {
			prefix += "," + n.Prefix6.String()
		}
		var vms []string
		for _, vm := range n.VMs {
			vms = append(vms, vm.Name)
		}
		bridge := n.Bridge
		if n.Macvtap {
			bridge = "(macvtap)"
		}
		row(n.Name, n.Mode, call.OrDash(bridge), call.OrDash(prefix),
			call.OrDash(strings.Join(n.Uplinks, ",")), n.KeeperPID, call.OrDash(strings.Join(vms, ",")))
	}
}

// leaseRows prints the DHCP clients of networks.
func leaseRows(row call.Row, infos []keeper.Info) {
	for _, n := range infos {
		for _, l := range n.Leases {
			cells := []any{n.Name, l.Address, l.MAC, call.OrDash(l.Host), l.State()}
			if l.Address6.IsValid() {
				cells = append(cells, l.Address6, l.State6())
			}
			row(cells...)
		}
	}
}

// leases prints the DHCP clients of the networks that have any, and warnings of what
// does not work.
func (a *app) leases(infos []keeper.Info) error {
	if slices.ContainsFunc(infos, func(n keeper.Info) bool { return len(n.Leases) > 0 }) {
		fmt.Fprintln(a.Stdout)
		header := "NETWORK ADDRESS MAC NAME LEASE"
		if slices.ContainsFunc(infos, func(n keeper.Info) bool { return n.Prefix6.IsValid() }) {
			header += " ADDRESS6 LEASE6"
		}
		if err := a.Table(header, func(row call.Row) { leaseRows(row, infos) }); err != nil {
			return err
		}
	}
	for _, n := range infos {
		for _, note := range n.Notes {
			a.Talk("warning: network %s: %s", legible.Text(n.Name), note)
		}
	}
	return nil
}
