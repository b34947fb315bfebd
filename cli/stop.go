package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/signals"
)

func (a *app) stopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop a VM: its power button, then quit, SIGKILL", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "do not ask the guest"},
			&cli.DurationFlag{Name: "timeout", Value: guestTime, Usage: "give the guest `TIME` to shut down, such as 30s or 2m"},
		},
		Action: a.stop,
	}
}

func (a *app) stop(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	timeout := c.Duration("timeout")
	if timeout <= 0 {
		return &call.Usage{Text: fmt.Sprintf("stop: --timeout: got %s, allowed: more than 0s; --force does not ask the guest", timeout)}
	}
	return a.stopWithin(c.Context, args[0], c.Bool("force"), timeout)
}

// stopVM ends a VM as qnet stop does without --timeout.
func (a *app) stopVM(ctx context.Context, name string, force bool) error {
	return a.stopWithin(ctx, name, force, guestTime)
}

func (a *app) stopWithin(ctx context.Context, name string, force bool, timeout time.Duration) error {
	_, runDir, err := a.Places.Find(ctx, name)
	if err != nil {
		return err
	}
	progress := a.Progress(name)
	defer progress("")
	defer signals.OnInterrupt(func() { progress("") })()
	return control.Stop(ctx, runDir, name, control.StopOptions{
		Force: force, Timeout: timeout,
		Report: func(rung string) {
			a.Talk("%s: %s", name, rung)
			progress(rungWait(rung, timeout))
		},
		Ended: func() { progress("what was made for it to be undone") },
	})
}
