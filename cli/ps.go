package cli

import (
	"fmt"
	"io"
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
		return a.Table("NAME QEMU CONFINED MISSING", func(w io.Writer) {
			for _, s := range states {
				fmt.Fprintln(w, securityRow(s))
			}
		})
	}
	header := "NAME STATE MODE NETWORK ADDRESS MAC TAP UPTIME"
	if slices.ContainsFunc(states, hasForwards) {
		header += " PORTS"
	}
	return a.Table(header, func(w io.Writer) {
		for _, s := range states {
			vmRows(w, s, time.Since(s.Started).Truncate(time.Second))
		}
	})
}

// securityRow is what confines a VM's QEMU.
func securityRow(s control.State) string {
	if s.Confined == nil { // it starts, or has a supervisor of an older qnet
		return s.Name + "\t-\t-\t-"
	}
	return fmt.Sprintf("%s\t%d\t%s\t%s", s.Name, s.QEMU, s.Confined, call.OrDash(s.Confined.Lacks()))
}

// vmRows prints a row for each NIC of a VM. Those behind the first do not repeat what
// is the VM's.
func vmRows(w io.Writer, s control.State, uptime time.Duration) {
	if len(s.NICs) == 0 {
		fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t-\t%s\n", s.Name, s.Status(), uptime)
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", name, state, mode, call.OrDash(n.Network), call.AddressOrDash(address), n.MAC, call.OrDash(n.Tap), up, portsOf(n))
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
	if list == nil {
		return ""
	}
	return "\t" + strings.Join(list, " ")
}
