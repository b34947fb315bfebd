// Package vms has the commands for VMs whether they run or not: what they keep, and how they
// begin and end. Each command has a file of its own.
package vms

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
)

// Does is what package cli does for these commands.
type Does struct {
	// Start runs the VM of an operand in the background, and prints its name. It reads the
	// flags that StartFlags returns. The profile may name what is below the allowed folders.
	Start func(c *cli.Context, operand, name string, allowed []string) error
	// StartFlags are those of Start.
	StartFlags func() []cli.Flag
	// Stop ends a VM that runs, as qnet stop does.
	Stop func(ctx context.Context, name string, force bool) error
}

// vms is one invocation of one of the commands.
type vms struct {
	*call.Call
	does Does
}

// Commands returns the commands in the order of the help text. They may be run once c has
// its user and places.
func Commands(c *call.Call, does Does) []*cli.Command {
	v := vms{c, does}
	return []*cli.Command{v.lsCommand(), v.startCommand(), v.restartCommand(), v.rmCommand(), v.initCommand(), v.editCommand()}
}
