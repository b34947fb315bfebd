package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

func (a *app) gcCommand() *cli.Command {
	return &cli.Command{Name: "gc", Usage: "remove what dead processes left", Action: a.gc}
}

func (a *app) gc(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	if err := rundir.Trust(a.Places.Run); err != nil {
		return &rundir.Unusable{What: "run directory", Dir: a.Places.Run, Err: err}
	}
	var networks []string
	var vms []rundir.VM
	var netErr, vmErr error
	a.During("what dead processes left to be undone", func() {
		networks, netErr = keeper.Collect(c.Context, keeper.Options{RunDir: a.Places.Run, StateDir: a.Places.State})
		vms, vmErr = rundir.Collect(a.Places.Run)
	})
	for _, network := range networks {
		fmt.Fprintln(a.Stdout, "removed", legible.Text(network))
	}
	for _, vm := range vms {
		fmt.Fprintln(a.Stdout, "removed VM", vm.Name)
	}
	return errors.Join(netErr, vmErr)
}
