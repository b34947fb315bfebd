package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/scroll"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/terminal"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "show what a VM wrote to its console, also after its end", ArgsUsage: "NAME",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on while it runs"}},
		Action: a.logs,
	}
}

func (a *app) logs(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	if !profiles.ValidName(args[0]) {
		return &usage{fmt.Sprintf("logs: got %.80q, allowed: %s", args[0], profiles.NamePattern)}
	}
	f, err := a.places.OpenLog(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := signals.WhileRead(c.Context, a.Stdout)
	defer cancel()
	if screen := terminal.New(nil, a.Stdout); screen != nil {
		return showGuest(screen, func() error { return a.copyLog(ctx, c.Bool("follow"), args[0], f, &scroll.Writer{To: screen}) })
	}
	return a.copyLog(ctx, c.Bool("follow"), args[0], f, a.Stdout)
}

func (a *app) copyLog(ctx context.Context, follow bool, name string, log io.Reader, to io.Writer) error {
	for {
		// A log that grows too long is renamed to .1: what this misses then is there.
		if _, err := io.Copy(to, log); err != nil || !follow {
			return err
		}
		if _, _, err := a.places.Find(ctx, name); err != nil {
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
