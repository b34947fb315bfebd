package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/control"
)

func (a *app) stop(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	if timeout := c.Duration("timeout"); timeout <= 0 {
		return &usage{fmt.Sprintf("stop: --timeout: got %s, allowed: more than 0s; --force does not ask the guest", timeout)}
	}
	_, runDir, err := a.find(c.Context, args[0])
	if err != nil {
		return err
	}
	waits := a.waits(args[0])
	defer waits("")
	defer onInterrupt(func() { waits("") })()
	return control.Stop(c.Context, runDir, args[0], control.StopOptions{
		Force: c.Bool("force"), Timeout: c.Duration("timeout"),
		Report: func(rung string) {
			a.talk("%s: %s", args[0], rung)
			waits(rungWait(rung, c.Duration("timeout")))
		},
		Ended: func() { waits("what was made for it to be undone") },
	})
}
