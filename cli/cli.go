// Package cli is qnet's command line: it reads arguments, calls the packages
// that do the work, words results and errors, and decides the exit code.
//
// Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failure, 2 usage or
// bad profile, 3 host not capable, 4 QEMU failed.
package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/status"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
)

// version is set by the Makefile.
var version = "dev"

// Env is what a command gets from the world.
type Env struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// Root's directories.
const (
	rootRunDir   = "/run/qnet"
	rootStateDir = "/var/lib/qnet"
)

// app is one invocation.
type app struct {
	Env
	user             *asuser.User
	runDir, stateDir string
	elsewhere        string               // where root's VMs are, for a user who named no directory
	rootsState       string               // where root's salt is, likewise
	terminal         *supervisor.Terminal // that the console of a VM has or will have, else nil
	line             *status.Line         // nil where there is none
	unknown          string               // what help was asked for and is no command
}

// Main runs one command and returns the exit code.
func Main(ctx context.Context, args []string, env Env) int {
	if len(args) > 0 && args[0] == "keeper" {
		return server.Main(ctx, args[1:], env.Stdin, env.Stderr)
	}
	a := &app{Env: env, line: status.New(env.Stderr, env.Getenv("TERM"))}
	c := a.command()
	args, err := flagsFirst(c, args)
	if err == nil {
		err = c.RunContext(ctx, append([]string{"qnet"}, args...))
	}
	if err == nil && a.unknown != "" {
		err = unknownCommand(a.unknown)
	}
	return a.report(err)
}

func (a *app) command() *cli.App {
	return &cli.App{
		Name: "qnet", Usage: "launch VMs with networking", Version: version, HideVersion: true,
		UsageText: "qnet [--run-dir DIR] [--state-dir DIR] COMMAND ...\n\nExample: sudo qnet run examples/nat.toml",
		Writer:    a.Stdout, ErrWriter: a.Stderr,
		DisableSliceFlagSeparator: true,
		// The default handler calls os.Exit, which would skip what is deferred.
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

var errSilent = errors.New("already reported")
