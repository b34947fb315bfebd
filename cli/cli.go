// Package cli is qnet's command line: it reads arguments, calls the packages
// that do the work, words results and errors, and decides the exit code.
//
// Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failure, 2 usage or
// bad profile, 3 host not capable, 4 QEMU failed.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/status"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
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
		return keeper.Main(args[1:], env.Stdin, env.Stderr)
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

// usage is an error in the arguments.
type usage struct{ text string }

// Error is the text.
func (u *usage) Error() string { return u.text }

func unknownCommand(name string) error {
	return &usage{fmt.Sprintf("unknown command %q; qnet --help lists them", name)}
}

func usageError(c *cli.Context, err error, _ bool) error {
	if strings.HasSuffix(err.Error(), "parse error") { // a whole number is no time
		err = fmt.Errorf("%w; allowed: a time such as 30s or 2m", err)
	}
	switch name := c.Command.Name; name {
	case c.App.Name:
		return &usage{err.Error()}
	case "run":
		return &usage{"run: " + err.Error() + "; QEMU arguments go behind --"}
	default:
		return &usage{name + ": " + err.Error()}
	}
}

// before decides the directories, for every command.
func (a *app) before(c *cli.Context) error {
	user, err := asuser.Lookup(a.Getenv)
	if err != nil {
		return err
	}
	a.user = user
	a.runDir = first(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"), a.defaultRunDir())
	a.stateDir = first(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"), a.defaultStateDir())
	if os.Geteuid() != 0 && c.String("run-dir") == "" && a.Getenv("QNET_RUN_DIR") == "" && a.runDir != rootRunDir {
		a.elsewhere = rootRunDir
	}
	if os.Geteuid() != 0 && c.String("state-dir") == "" && a.Getenv("QNET_STATE_DIR") == "" {
		a.rootsState = rootStateDir
	}
	for _, dir := range []*string{&a.runDir, &a.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	return nil
}

func first(values ...string) string {
	return values[max(slices.IndexFunc(values, func(v string) bool { return v != "" }), 0)]
}

func (a *app) defaultRunDir() string {
	if os.Geteuid() == 0 {
		return rootRunDir
	}
	if xdg := a.Getenv("XDG_RUNTIME_DIR"); xdg != "" {
		return filepath.Join(xdg, "qnet")
	}
	return filepath.Join(a.defaultStateDir(), "run") // after su(1), of cron(8)
}

// stateOf is the state directory of a profile's runs: root's, where these need
// rights, also for a user who only asks what a run would do.
func (a *app) stateOf(p *profiles.Profile) string {
	if a.rootsState != "" && len(supervisor.NetworksOf(p)) > 0 {
		return a.rootsState
	}
	return a.stateDir
}

// find asks a VM for its state, and says in which run directory it is.
func (a *app) find(name string) (s supervisor.State, runDir string, err error) {
	s, err = supervisor.Find(a.runDir, name)
	if a.elsewhere == "" || !errors.Is(err, supervisor.ErrNotRunning) {
		return s, a.runDir, err
	}
	// What sudo started is under root's directory, and its user's own.
	s, err = supervisor.Find(a.elsewhere, name)
	return s, a.elsewhere, err
}

// list returns all VMs that the caller may ask.
func (a *app) list() ([]supervisor.State, error) {
	states, err := supervisor.List(a.runDir)
	if err != nil || a.elsewhere == "" {
		return states, err
	}
	more, err := supervisor.List(a.elsewhere)
	return append(states, more...), err
}

func (a *app) defaultStateDir() string {
	if os.Geteuid() == 0 {
		return rootStateDir
	}
	if xdg := a.Getenv("XDG_STATE_HOME"); xdg != "" {
		return filepath.Join(xdg, "qnet")
	}
	return filepath.Join(a.Getenv("HOME"), ".local/state/qnet")
}

// flagsFirst moves a command's flags before its other arguments, because the
// library silently ignores flags after the first of those. What follows "--"
// stays where it is.
func flagsFirst(c *cli.App, args []string) ([]string, error) {
	i := commandIndex(c, args)
	if i < 0 {
		return args, nil
	}
	cmd := c.Command(args[i])
	if cmd == nil {
		return args, nil
	}
	var flags, rest []string
	tail := args[i+1:]
	for j := 0; j < len(tail); j++ {
		arg := tail[j]
		if arg == "--" {
			rest = append(rest, tail[j:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			rest = append(rest, arg)
			continue
		}
		flags = append(flags, arg)
		if takesValue(cmd.Flags, arg) {
			if j+1 == len(tail) {
				return nil, &usage{fmt.Sprintf("flag %s needs a value", arg)}
			}
			j++
			flags = append(flags, tail[j])
		}
	}
	return slices.Concat(args[:i+1], flags, rest), nil
}

// commandIndex finds the command's place behind the global flags.
func commandIndex(c *cli.App, args []string) int {
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			return i
		}
		if takesValue(c.Flags, args[i]) {
			i++
		}
	}
	return -1
}

func takesValue(flags []cli.Flag, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// operands returns the arguments, which must be as many as names.
func operands(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < len(names) {
		return nil, &usage{fmt.Sprintf("%s needs %s; see qnet %s --help", c.Command.Name, names[len(args)], c.Command.Name)}
	}
	if len(args) > len(names) {
		return nil, &usage{fmt.Sprintf("%s takes no argument %q; see qnet %s --help", c.Command.Name, args[len(names)], c.Command.Name)}
	}
	return args, nil
}

var errSilent = errors.New("already reported")
