package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
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
	g, err := parseGoal(c.String("for"))
	if err != nil {
		return err
	}
	address, err := a.await(c.Context, args[0], g, c.Duration("timeout"))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, address)
	return nil
}

// goal is what `qnet wait` waits for, beyond an address.
type goal struct {
	ping bool
	port int // 0 = none
}

// parseGoal reads the value of --for.
func parseGoal(s string) (goal, error) {
	switch s {
	case "address":
		return goal{}, nil
	case "ping":
		return goal{ping: true}, nil
	}
	if number, ok := strings.CutPrefix(s, "port:"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 65536 {
			return goal{port: n}, nil
		}
	}
	return goal{}, &usage{fmt.Sprintf("--for: got %.80q, allowed: address, ping, port:N", s)}
}

// String returns the goal as part of a sentence.
func (g goal) String() string {
	switch {
	case g.ping:
		return "an answer to ping"
	case g.port != 0:
		return fmt.Sprintf("port %d", g.port)
	}
	return "an address"
}

// reached asks the address.
func (g goal) reached(ctx context.Context, a netip.Addr) bool {
	switch {
	case g.ping:
		return pings(ctx, a)
	case g.port != 0:
		return dials(ctx, a, g.port)
	}
	return true
}

// pollInterval is the time between two questions for a VM's state.
const pollInterval = 100 * time.Millisecond

// await returns the VM's address once the goal is reached. It shows its progress on the
// status line, or without a terminal as a line on stderr for each stage.
func (a *app) await(ctx context.Context, name string, g goal, timeout time.Duration) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	defer a.line.Set("")
	defer onInterrupt(func() { a.line.Set("") })()
	for {
		s, _, err := a.find(ctx, name)
		if err != nil {
			return netip.Addr{}, err
		}
		nic, address := firstAddress(s)
		if err := g.possible(s, nic); err != nil {
			return netip.Addr{}, err
		}
		if address.IsValid() && g.reached(ctx, address) {
			return address, nil
		}
		line := fmt.Sprintf("%s: waiting for %s; %s", name, g, progressOf(s, nic, address))
		a.line.Set(line)
		if line != told && !a.line.OnTerminal() {
			a.talk("%s", line)
		}
		told = line
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return netip.Addr{}, ctx.Err()
			}
			return netip.Addr{}, &stuck{s, g, timeout, nic, address}
		case <-time.After(pollInterval):
		}
	}
}

// possible returns an error if the VM cannot reach the goal, however long the user
// waits.
func (g goal) possible(s control.State, nic control.NIC) error {
	if s.State == control.Running && !hasNetwork(s) {
		return &usage{fmt.Sprintf("wait for %s of VM %q: %s", g, s.Name, unseen)}
	}
	if g != (goal{}) && nic.Mode == profiles.Private {
		return &usage{fmt.Sprintf("wait for %s of VM %q: it is on a private network, which the host cannot reach", g, s.Name)}
	}
	return nil
}

// hasNetwork reports whether qnet sees the frames of at least one of the VM's NICs.
func hasNetwork(s control.State) bool {
	return slices.ContainsFunc(s.NICs, func(n control.NIC) bool { return n.Mode.NeedsNetwork() })
}

// progressOf says how far the VM and its guest have come.
func progressOf(s control.State, n control.NIC, address netip.Addr) string {
	switch {
	case s.State != control.Running:
		return "VM " + string(s.State)
	case address.IsValid():
		return "address " + address.String()
	case n.Seen.Last() == guestwatch.Silent:
		return "QEMU running"
	}
	return n.Seen.Last().String()
}

// pings reports whether an address answers a ping within a second. Where the host cannot
// ask, it does not.
func pings(ctx context.Context, a netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answers, err := packet.Ping(ctx, a)
	return answers && err == nil
}
