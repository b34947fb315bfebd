package guests

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/reach"
)

func (g guests) waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until a VM has an address, or say at which stage it is stuck", ArgsUsage: "NAME",
		Description: "Prints the address. Stages: first frame, DISCOVER, OFFER, REQUEST, ACK, ARP, DNS query, DNS answer.\n\nExample: qnet run -d vm.toml && qnet wait --for port:22 vm",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Value: "address", Usage: "wait for `WHAT`: address, ping or port:N"},
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
		return &call.Usage{Text: fmt.Sprintf("--for: got %.80q, allowed: address, ping, port:N", c.String("for"))}
	}
	_, address, err := g.Await(c.Context, args[0], goal, c.Duration("timeout"))
	if err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, address)
	return nil
}
