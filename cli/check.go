package cli

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{Name: "check", Usage: "show every problem of profiles", ArgsUsage: "PROFILE...", Action: a.check}
}

func (a *app) check(c *cli.Context) error {
	if !c.Args().Present() {
		return &usage{"check needs a PROFILE; see qnet check --help"}
	}
	var errs []error
	for _, path := range c.Args().Slice() {
		_, err := a.load(path, "")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
