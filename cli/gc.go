package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

func (a *app) gc(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	var networks, vms []string
	var netErr, vmErr error
	a.during("what dead processes left to be undone", func() {
		networks, netErr = keeper.Collect(c.Context, keeper.Options{RunDir: a.runDir, StateDir: a.stateDir})
		vms, vmErr = supervisor.Collect(a.runDir)
	})
	for _, what := range append(networks, vms...) {
		fmt.Fprintln(a.Stdout, "removed", what)
	}
	return errors.Join(netErr, vmErr)
}
