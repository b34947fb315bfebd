package guests

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/terminal"
)

func (g guests) consoleCommand() *cli.Command {
	return &cli.Command{Name: "console", Usage: "connect to a VM's serial console; Ctrl-] q leaves", ArgsUsage: "NAME", Action: g.console}
}

func (g guests) console(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	_, runDir, err := g.Places.Find(c.Context, args[0])
	if err != nil {
		return err
	}
	ctx, cancel := signals.WhileRead(c.Context, g.Stdout)
	defer cancel()
	connect := func(in io.Reader, out io.Writer) error {
		err := control.Console(ctx, runDir, args[0], in, out)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // left by its key, or by the reader of stdout
		}
		return err
	}
	screen := terminal.New(g.Stdin, g.Stdout)
	if screen == nil {
		return connect(g.Stdin, g.Stdout)
	}
	var in io.Reader = g.Stdin
	if screen.HasKeys() {
		g.Talk("Ctrl-] q leaves")
		in = screen.Keys(func() bool {
			cancel()
			return true
		})
	}
	return showGuest(screen, func() error { return connect(in, screen) })
}

// showGuest gives the terminal to a guest while f copies the guest's output to it.
func showGuest(screen *terminal.Terminal, f func() error) error {
	if err := screen.Begin(); err != nil {
		return fmt.Errorf("set terminal raw: %w", err)
	}
	restore := func() { screen.Restore() } //nolint:errcheck // nothing better can be done
	defer restore()
	defer signals.OnInterrupt(restore)()
	return f()
}
