package call

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/signals"
)

// pollInterval is the time between two questions for a VM's state.
const pollInterval = 100 * time.Millisecond

// Await returns the VM's state and address once the goal is reached. It shows its progress on the
// status line, or without a terminal as a line on stderr for each stage.
func (c *Call) Await(ctx context.Context, name string, g reach.Goal, timeout time.Duration) (control.State, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	defer c.Line.Set("")
	defer signals.OnInterrupt(func() { c.Line.Set("") })()
	var stuck *reach.Stuck // what the last answer showed
	for {
		s, _, err := c.Places.Find(ctx, name)
		if err != nil {
			return s, netip.Addr{}, unlessOver(ctx, stuck, err)
		}
		if reach.IsHeld(s) {
			return s, netip.Addr{}, &reach.Held{VM: s}
		}
		nic, address := reach.AddressOf(s)
		if why := g.Impossible(s, nic); why != "" {
			return s, netip.Addr{}, &Usage{Text: fmt.Sprintf("wait for %s of VM %q: %s", g, name, why)}
		}
		if address.IsValid() && s.State == control.Running && g.Reached(ctx, address) {
			return s, address, nil
		}
		line := fmt.Sprintf("%s: waiting for %s; %s", name, g, reach.ProgressOf(s, nic, address))
		c.Line.Set(line)
		if line != told && !c.Line.OnTerminal() {
			c.Talk("%s", line)
		}
		told = line
		stuck = &reach.Stuck{VM: s, Goal: g, After: timeout, NIC: nic, Address: address}
		select {
		case <-ctx.Done():
			return s, netip.Addr{}, unlessOver(ctx, stuck, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// unlessOver returns the error of a wait, but how far the guest came if the time of the wait is
// over: also in the middle of a question, whose socket may end a moment before the context does.
func unlessOver(ctx context.Context, stuck *reach.Stuck, err error) error {
	end, bounded := ctx.Deadline()
	if stuck != nil && bounded && !time.Now().Before(end) {
		return stuck
	}
	return err
}
