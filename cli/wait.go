package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/signals"
)

func (a *app) waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until a VM has an address, or say at which stage it is stuck", ArgsUsage: "NAME",
		Description: "Prints the address. Stages: first frame, DISCOVER, OFFER, REQUEST, ACK, ARP, DNS query, DNS answer.\n\nExample: qnet run -d vm.toml && qnet wait --for port:22 vm",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Value: "address", Usage: "wait for `WHAT`: address, ping or port:N"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "wait for `TIME`, such as 30s or 2m"},
		},
		Action: a.wait,
	}
}

func (a *app) wait(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	g, ok := reach.ParseGoal(c.String("for"))
	if !ok {
		return &usage{fmt.Sprintf("--for: got %.80q, allowed: address, ping, port:N", c.String("for"))}
	}
	_, address, err := a.await(c.Context, args[0], g, c.Duration("timeout"))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, address)
	return nil
}

// pollInterval is the time between two questions for a VM's state.
const pollInterval = 100 * time.Millisecond

// await returns the VM's state and address once the goal is reached. It shows its progress on the
// status line, or without a terminal as a line on stderr for each stage.
func (a *app) await(ctx context.Context, name string, g reach.Goal, timeout time.Duration) (control.State, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	defer a.line.Set("")
	defer signals.OnInterrupt(func() { a.line.Set("") })()
	for {
		s, _, err := a.places.Find(ctx, name)
		if err != nil {
			return s, netip.Addr{}, err
		}
		nic, address := reach.AddressOf(s)
		if why := g.Impossible(s, nic); why != "" {
			return s, netip.Addr{}, &usage{fmt.Sprintf("wait for %s of VM %q: %s", g, name, why)}
		}
		if address.IsValid() && s.State == control.Running && g.Reached(ctx, address) {
			return s, address, nil
		}
		line := fmt.Sprintf("%s: waiting for %s; %s", name, g, reach.ProgressOf(s, nic, address))
		a.line.Set(line)
		if line != told && !a.line.OnTerminal() {
			a.talk("%s", line)
		}
		told = line
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return s, netip.Addr{}, ctx.Err()
			}
			return s, netip.Addr{}, &reach.Stuck{VM: s, Goal: g, After: timeout, NIC: nic, Address: address}
		case <-time.After(pollInterval):
		}
	}
}
