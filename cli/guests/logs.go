package guests

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/scroll"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/terminal"
	"github.com/qnet-vm/qnet/profiles"
)

func (g guests) logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "show what a VM wrote to its console, also after its end", ArgsUsage: "NAME",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on while it runs"}},
		Action: g.logs,
	}
}

func (g guests) logs(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	if !profiles.ValidName(args[0]) {
		return &call.Usage{Text: fmt.Sprintf("logs: got %.80q, allowed: %s", args[0], profiles.NamePattern)}
	}
	f, err := g.Places.OpenLog(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := signals.WhileRead(c.Context, g.Stdout)
	defer cancel()
	if screen := terminal.New(nil, g.Stdout); screen != nil {
		return showGuest(screen, func() error { return g.copyLog(ctx, c.Bool("follow"), args[0], f, &scroll.Writer{To: screen}) })
	}
	return g.copyLog(ctx, c.Bool("follow"), args[0], f, g.Stdout)
}

func (g guests) copyLog(ctx context.Context, follow bool, name string, log io.Reader, to io.Writer) error {
	for {
		// A log that grows too long is renamed to .1: what this misses then is there.
		if _, err := io.Copy(to, log); err != nil || !follow {
			return err
		}
		if _, _, err := g.Places.Find(ctx, name); err != nil {
			_, err = io.Copy(to, log)
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
