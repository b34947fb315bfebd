package cli

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/hardware"
)

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "show every problem of profiles", ArgsUsage: "PROFILE...",
		Flags: []cli.Flag{call.AllowPathFlag()}, Action: a.check,
	}
}

func (a *app) check(c *cli.Context) error {
	if !c.Args().Present() {
		return &call.Usage{Text: "check needs a PROFILE; see qnet check --help"}
	}
	var errs []error
	for _, path := range c.Args().Slice() {
		p, err := a.Load(path, "")
		if err == nil {
			err = a.Allow(c, p)
		}
		errs = append(errs, err, hardware.BadFiles(p, a.Files()))
	}
	return errors.Join(errs...)
}
