package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/place"
	"github.com/qnet-vm/qnet/profiles/ports"
)

func (a *app) psCommand() *cli.Command {
	return &cli.Command{Name: "ps", Usage: "list running VMs", Flags: []cli.Flag{call.JSONFlag(), &cli.BoolFlag{Name: "security", Usage: "show what confines each QEMU, and what is missing"}}, Action: a.ps}
}

func (a *app) ps(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	states, foreign, err := a.Places.List(c.Context)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		a.Talk("%s", place.Foreign(foreign))
	}
	if c.Bool("json") {
		return a.JSON(states)
	}
	if c.Bool("security") {
		return a.Table("NAME QEMU CONFINED MISSING", func(row call.Row) {
			for _, s := range states {
				securityRow(row, s)
			}
		})
	}
	header := "NAME STATE MODE NETWORK ADDRESS MAC TAP UPTIME"
	if slices.ContainsFunc(states, hasForwards) {
		header += " PORTS"
	}
	return a.Table(header, func(row call.Row) {
		for _, s := range states {
			vmRows(row, s, time.Since(s.Started).Truncate(time.Second))
		}
	})
}

// securityRow prints what confines a VM's QEMU.
func securityRow(row call.Row, s control.State) {
	if s.Confined == nil { // it starts, or has a supervisor of an older qnet
		row(s.Name, "-", "-", "-")
		return
	}
	row(s.Name, s.QEMU, s.Confined, call.OrDash(s.Confined.Lacks()))
}

// vmRows prints a row for each NIC of a VM. Those behind the first do not repeat what
// is the VM's.
func vmRows(row call.Row, s control.State, uptime time.Duration) {
	if len(s.NICs) == 0 {
		row(s.Name, s.Status(), "-", "-", "-", "-", "-", uptime)
	}
	for i, n := range s.NICs {
		address := n.Address
		if list := n.Addresses(); len(list) > 0 {
			address = list[0]
		}
		name, state, up := s.Name, s.Status(), uptime.String()
		if i > 0 {
			name, state, up = "", "", ""
		}
		mode := string(n.Mode)
		if n.Unguarded {
			mode += ",guard=off"
		}
		cells := []any{name, state, mode, call.OrDash(n.Network), call.AddressOrDash(address), n.MAC, call.OrDash(n.Tap), up}
		if ports := portsOf(n); ports != "" {
			cells = append(cells, ports)
		}
		row(cells...)
	}
}

func hasForwards(s control.State) bool {
	return slices.ContainsFunc(s.NICs, func(n control.NIC) bool { return len(n.Forwards) > 0 })
}

// mostPorts is how many forwards of a NIC a row shows; qnet forward ls shows all.
const mostPorts = 3

// portsOf is the last column of a NIC's row: what leads to it, "" for nothing.
func portsOf(n control.NIC) string {
	var list []string
	for i, f := range n.Forwards {
		if i == mostPorts {
			list = append(list, fmt.Sprintf("%d more", len(n.Forwards)-i))
			break
		}
		list = append(list, ports.Forward{Proto: f.Proto, Address: f.Address, Port: f.Port, Guest: f.Guest}.String())
	}
	return strings.Join(list, " ")
}
