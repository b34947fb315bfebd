package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/supervisor"
)

func (a *app) consoleCommand() *cli.Command {
	return &cli.Command{Name: "console", Usage: "connect to a VM's serial console; Ctrl-] q leaves", ArgsUsage: "NAME", Action: a.console}
}

func (a *app) console(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	_, runDir, err := a.find(c.Context, args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	terminal := supervisor.NewTerminal(a.Stdin, a.Stdout)
	if terminal == nil {
		return control.Console(ctx, runDir, args[0], a.Stdin, a.Stdout)
	}
	var in io.Reader = a.Stdin
	if terminal.HasKeys() {
		a.talk("Ctrl-] q leaves")
		in = terminal.Keys(func() bool {
			cancel()
			return true
		})
	}
	return showGuest(terminal, func() error { return control.Console(ctx, runDir, args[0], in, terminal) })
}

// showGuest gives the terminal to a guest while f copies the guest's output to it.
func showGuest(terminal *supervisor.Terminal, f func() error) error {
	if err := terminal.Begin(); err != nil {
		return fmt.Errorf("set terminal raw: %w", err)
	}
	restore := func() { terminal.Restore() } //nolint:errcheck // nothing better can be done
	defer restore()
	defer onInterrupt(restore)()
	return f()
}
