package guests

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/reach"
)

func (g guests) waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until a VM has an address, or say at which stage it is stuck", ArgsUsage: "NAME",
		Description: "Prints the address. Stages: first frame, DISCOVER, OFFER, REQUEST, ACK, ARP, DNS query, DNS answer.\n\n" +
			"ssh waits for a login, and boot for the end of cloud-init, or of the start of all services without it.\n\nExample: qnet run -d vm.toml && qnet wait --for boot vm",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Value: "address", Usage: "wait for `WHAT`: address, ping, port:N, ssh or boot"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "wait for `TIME`, such as 30s or 2m"},
		},
		Action: g.wait,
	}
}

func (g guests) wait(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	goal, ok := reach.ParseGoal(c.String("for"))
	if !ok {
		return &call.Usage{Text: fmt.Sprintf("--for: got %.80q, allowed: %s", c.String("for"), reach.Goals)}
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	first := goal
	first.Untried = goal.Login != "" // a login says more than a look at its port, for which the guest starts a process
	state, address, err := g.Await(ctx, args[0], first, c.Duration("timeout"))
	if err == nil && goal.Login != "" {
		err = g.awaitLogin(ctx, &waitForLogin{vm: state, address: address, goal: goal, within: c.Duration("timeout")})
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, address)
	return nil
}
