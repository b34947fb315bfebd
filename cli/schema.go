package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) schemaCommand() *cli.Command {
	return &cli.Command{Name: "schema", Usage: "print the JSON Schema of profiles", Action: a.schema}
}

func (a *app) schema(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	b, err := profiles.Schema()
	if err != nil {
		return err
	}
	_, err = a.Stdout.Write(b)
	return err
}
