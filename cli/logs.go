package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/scroll"
	"github.com/qnet-vm/qnet/internal/supervisor"
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
	if !vmName.MatchString(args[0]) {
		return &usage{fmt.Sprintf("logs: got %.80q, allowed: %s", args[0], vmName)}
	}
	f, err := a.places.OpenLog(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if terminal := supervisor.NewTerminal(nil, a.Stdout); terminal != nil {
		return showGuest(terminal, func() error { return a.copyLog(c, args[0], f, &scroll.Writer{To: terminal}) })
	}
	return a.copyLog(c, args[0], f, a.Stdout)
}

func (a *app) copyLog(c *cli.Context, name string, log io.Reader, to io.Writer) error {
	for {
		// A log that grows too long is renamed to .1: what this misses then is there.
		if _, err := io.Copy(to, log); err != nil || !c.Bool("follow") {
			return err
		}
		if _, _, err := a.find(c.Context, name); err != nil {
			_, err = io.Copy(to, log)
			return err
		}
		select {
		case <-c.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
