package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "tell what on this host will break which mode, and what to do", ArgsUsage: "[PROFILE]",
		Description: "With --probe, a synthetic guest joins the profile's networks (or one of mode nat) and tries what a guest needs;\n" +
			"where a packet vanishes, it says at which rule of which program.\n\nExample: sudo qnet doctor --probe vm.toml",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "probe", Usage: "play a guest on the networks, in place of the checks"},
			&cli.StringFlag{Name: "target", Usage: "have a probe connect to `HOST:PORT` outside; else to the host's gateway and resolvers"},
			&cli.StringFlag{Name: "name", Usage: "have a probe resolve `NAME`; else example.com"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			call.AllowPathFlag(),
		},
		Action: a.doctor,
	}
}

// errCannotWork makes the exit code 3, behind a table that says why.
var errCannotWork = errors.Join(call.ErrSilent, &call.ExitStatus{Code: exitIncapable})

func (a *app) doctor(c *cli.Context) error {
	var p *profiles.Profile
	if c.Args().Present() {
		var err error
		if p, err = a.Profile(c); err == nil {
			err = a.Allow(c, p)
		}
		if err != nil {
			return err
		}
	}
	networks := nics.KeeperNetworks(p)
	if c.Bool("probe") {
		return a.probe(c, networks)
	}
	for _, flag := range []string{"target", "name"} {
		if c.IsSet(flag) {
			return &call.Usage{Text: fmt.Sprintf("doctor: --%s is for --probe", flag)}
		}
	}
	runDir, stateDir := a.DirsOf(p)
	o := doctor.Options{
		RunDir: runDir, StateDir: stateDir, QEMU: a.Getenv("QNET_QEMU"), Path: a.Getenv("PATH"), User: a.User, Files: a.Files(), Networks: networks, Profile: p,
	}
	var r doctor.Report
	var err error
	a.During("this host's checks", func() { r, err = doctor.Run(c.Context, o) })
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = a.JSON(r)
	} else {
		err = r.WriteText(a.Stdout)
	}
	if err == nil && r.CannotWork() {
		return errCannotWork
	}
	return err
}
