// Package displays has the commands for the screen and the keyboard of a running VM. Each
// command has a file of its own.
package displays

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
)

// displays is one invocation of one of the commands.
type displays struct{ *call.Call }

// Commands returns the commands in the order of the help text. They may be run once c has
// its user and places.
func Commands(c *call.Call) []*cli.Command {
	d := displays{c}
	return []*cli.Command{d.viewCommand(), d.screenshotCommand(), d.typeCommand()}
}

// do has a VM carry out an operation.
func (d displays) do(ctx context.Context, name string, op control.Operation, result any) error {
	_, runDir, err := d.Places.Find(ctx, name)
	if err != nil {
		return err
	}
	return control.Do(ctx, runDir, name, op, result, control.DoOptions{})
}
