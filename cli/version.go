package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
)

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "print the version", Action: a.version}
}

func (a *app) version(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, "qnet", version)
	return nil
}
