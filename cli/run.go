package cli

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/displays"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/terminal"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run a VM", ArgsUsage: "PROFILE [-- QEMU ARGUMENTS]",
		Description: "The guest's serial console is this terminal; Ctrl-] q shuts the VM down, and again climbs to the\nnext, rougher way. Without a terminal the console is copied to stdout.\n\nExample: sudo qnet run vm.toml",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the VM runs, and leave it running"},
			&cli.StringFlag{Name: "name", Usage: "call the VM `NAME`, not as its profile does"},
			&cli.BoolFlag{Name: "warm", Usage: "begin from a booted guest that all VMs like this one share; the first run makes it"},
			&cli.BoolFlag{Name: "service", Usage: "for a unit of systemd: leave the console to its log, and give each line its priority"},
			&cli.BoolFlag{Name: "detached", Hidden: true},
			&cli.StringFlag{Name: "for-others", Hidden: true},
		}, startFlags()...),
		Action: a.run,
	}
}

// startFlags are the flags of all commands that start a VM.
func startFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "show each change to the host as it is done"},
		&cli.BoolFlag{Name: "assume-yes", Usage: "move the host to a bridge though no gateway answers, or by your session's NIC"},
		&cli.BoolFlag{Name: "fresh", Usage: "boot a VM that was suspended, and forget what was saved of it"},
		&cli.StringFlag{Name: "sandbox", Value: string(sandbox.Auto), Action: knownMode, Usage: "confine QEMU by `MODE`: auto, required or off"},
		call.AllowPathFlag(),
	}
}

// knownMode refuses a --sandbox that is none.
func knownMode(_ *cli.Context, mode string) error {
	if !slices.Contains(sandbox.Modes(), sandbox.Mode(mode)) {
		return &call.Usage{Text: fmt.Sprintf("--sandbox: got %.80q, allowed: auto, required, off", mode)}
	}
	return nil
}

// startInBackground runs the VM of an operand as qnet run -d does, with further folders that
// its profile is allowed.
func (a *app) startInBackground(c *cli.Context, operand, name string, allowed []string) error {
	p, err := a.Load(operand, name)
	if err != nil {
		return err
	}
	if err := a.Allow(c, p, allowed...); err != nil {
		return err
	}
	return a.detach(c, p, operand, nil, nil)
}

// runOperands returns the profile's path and the QEMU arguments behind "--".
func runOperands(c *cli.Context) (path string, extra []string, err error) {
	args := c.Args().Slice()
	if len(args) == 0 || args[0] == "" {
		return "", nil, &call.Usage{Text: "run needs a PROFILE; see qnet run --help"}
	}
	extra = args[1:]
	if len(extra) == 0 {
		return args[0], nil, nil
	}
	if extra[0] != "--" {
		return "", nil, &call.Usage{Text: fmt.Sprintf("run takes one profile; QEMU arguments such as %q go behind --", extra[0])}
	}
	return args[0], extra[1:], nil
}

func (a *app) run(c *cli.Context) error {
	signals.OutlivePipes()
	path, extra, err := runOperands(c)
	if err != nil {
		return err
	}
	p, err := a.Load(path, c.String("name"))
	if err == nil {
		err = a.Allow(c, p)
	}
	if err != nil {
		return err
	}
	if key := c.String("for-others"); key != "" {
		return a.bootForOthers(c, p, key, extra)
	}
	booted, err := a.warmOf(c, p, path, extra)
	if err != nil {
		return err
	}
	if c.Bool("detach") {
		return a.detach(c, p, path, extra, booted)
	}
	o, done := a.options(c, extra)
	defer done()
	o.Warm = booted
	if c.Bool("detached") {
		return a.runDetached(c.Context, p, o)
	}
	openWindow, err := displays.Window(c.Context, &a.Call, p)
	if err != nil {
		return err
	}
	if c.Bool("service") {
		a.asService(&o)
	} else {
		a.Terminal = terminal.New(a.Stdin, a.Stdout)
	}
	a.Speech = terminal.NewSpeech()
	o.Terminal, o.Progress, o.Rung, o.Started = a.Terminal, a.Progress(p.Name), a.rungs(p.Name), openWindow
	a.underManager(&o)
	return supervisor.Run(c.Context, p, o)
}

// options returns what `qnet run` tells the supervisor, and what to call at the end.
func (a *app) options(c *cli.Context, extra []string) (supervisor.Options, func()) {
	endings := signals.Endings()
	o := supervisor.Options{
		RunDir: a.Places.Run, StateDir: a.Places.State, Exe: []string{"/proc/self/exe", "keeper"},
		QEMU: a.Getenv("QNET_QEMU"), Path: a.Getenv("PATH"), Extra: extra, User: a.User, Files: a.Files(),
		Sandbox: sandbox.Mode(c.String("sandbox")), AssumeYes: c.Bool("assume-yes"), Fresh: c.Bool("fresh"),
		Stdout: a.Stdout, Signals: endings,
		Note: a.Warn,
	}
	if c.Bool("verbose") {
		o.Verbose = func(step string) { a.Talk("%s", step) }
	}
	return o, func() { signals.Ignore(endings) }
}
