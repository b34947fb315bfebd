// Package cli is qnet's command line: it reads the arguments, calls the packages that
// do the work, prints results and errors, and chooses the exit code. Each command has a
// file of its own, here or in the package of its group.
//
// Data goes to stdout; notes, warnings, progress and errors go to stderr. Exit codes:
// 0 ok, 1 failure, 2 usage or bad profile, 3 host not capable, 4 QEMU failed.
package cli

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/displays"
	"github.com/qnet-vm/qnet/cli/guests"
	"github.com/qnet-vm/qnet/cli/images"
	"github.com/qnet-vm/qnet/cli/scarce"
	"github.com/qnet-vm/qnet/cli/services"
	"github.com/qnet-vm/qnet/cli/states"
	"github.com/qnet-vm/qnet/cli/vms"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/virtiofs"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
)

// version is set by the Makefile.
var version = "dev"

// app is one invocation.
type app struct {
	call.Call
	unknown string // a word that the user wanted help on and that is no command
}

// Main runs one command and returns the exit code.
func Main(ctx context.Context, args []string, env call.Env) int {
	if len(args) > 0 && args[0] == "keeper" {
		return server.Main(ctx, args[1:], env.Stdin, env.Stderr)
	}
	if len(args) > 0 && args[0] == "virtiofs" {
		return virtiofs.Main(args[1:], env.Stderr)
	}
	a := &app{Call: call.New(env)}
	if err := scarce.CheckFiles(); err != nil {
		return a.report(err)
	}
	signals.EndByQuit()
	c := a.command()
	args, err := flagsFirst(c, args)
	if err == nil {
		err = c.RunContext(ctx, append([]string{"qnet"}, args...))
	}
	if err == nil && a.unknown != "" {
		err = unknownCommand(a.unknown)
	}
	code := a.report(err)
	if a.Speech != nil {
		a.Speech.Close()
	}
	return code
}

func (a *app) command() *cli.App {
	return &cli.App{
		Name: "qnet", Usage: "launch VMs with networking", Version: version, HideVersion: true,
		UsageText: "qnet [--run-dir DIR] [--state-dir DIR] COMMAND ...\n\nExample: sudo qnet run vm.toml",
		Writer:    a.Stdout, ErrWriter: a.Stderr,
		DisableSliceFlagSeparator: true,
		// The default handler calls os.Exit, and deferred functions would not run.
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    usageError,
		CommandNotFound: func(_ *cli.Context, name string) { a.unknown = name },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c.Args().First())
			}
			if c.Bool("version") {
				return a.version(c)
			}
			return cli.ShowAppHelp(c)
		},
		Before: a.before,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "run-dir", Usage: "keep sockets and journals in `DIR` while VMs run (QNET_RUN_DIR)"},
			&cli.StringFlag{Name: "state-dir", Usage: "keep the salt, subnets and logs in `DIR` (QNET_STATE_DIR)"},
			&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true},
		},
		Commands: a.commands(),
	}
}

// commands returns the commands in the order of the help text.
func (a *app) commands() []*cli.Command {
	list := slices.Concat(
		[]*cli.Command{a.runCommand(), a.planCommand(), a.checkCommand(), a.psCommand(), a.stopCommand()},
		vms.Commands(&a.Call, vms.Does{Start: a.startInBackground, StartFlags: startFlags, Stop: a.stopVM}),
		states.Commands(&a.Call),
		guests.Commands(&a.Call),
		displays.Commands(&a.Call),
		images.Commands(&a.Call),
		services.Commands(&a.Call, startFlags),
		[]*cli.Command{
			a.netCommand(), a.macCommand(), a.doctorCommand(), a.schemaCommand(), a.gcCommand(), a.versionCommand(), a.completionCommand(),
		},
	)
	for _, c := range list {
		c.HideHelpCommand = true // VMs may be called "h" and "help"
		c.OnUsageError = usageError
		for _, f := range c.Flags {
			if f, ok := f.(*cli.BoolFlag); ok {
				f.DisableDefaultText = true
			}
		}
	}
	return list
}
