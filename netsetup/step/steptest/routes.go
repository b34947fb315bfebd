package steptest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

func (c calls) ReplaceRoutes(ctx context.Context, link string, swaps []step.RouteSwap) error {
	return c.change(ctx, func(state map[string]string) {
		for _, s := range swaps {
			delete(state, "route "+string(s.Old.Message)+"@"+link)
			state["route "+string(s.New.Message)+"@"+link] = "yes"
		}
	})
}

func (c calls) MoveToBridge(ctx context.Context, s step.MoveToBridge) error {
	return c.change(ctx, func(state map[string]string) { state["master "+s.Link], state["host "+s.Bridge] = s.Bridge, "moved" })
}

func (c calls) MoveBack(ctx context.Context, s step.MoveToBridge) error {
	return c.change(ctx, func(state map[string]string) {
		delete(state, "master "+s.Link)
		delete(state, "host "+s.Bridge)
	})
}

// Ask counts as a call that changes something, so that it can fail.
func (c calls) Ask(ctx context.Context, _ string, want []host.Neighbor, _ time.Duration) ([]host.Neighbor, error) {
	err := c.change(ctx, func(map[string]string) {})
	if c.m.Ask != nil {
		return c.m.Ask(want), err
	}
	return want, err
}

// FIB has the pins and the exits.
func (c calls) FIB(ctx context.Context, _ netip.Prefix) (fib.FIB, error) {
	var f fib.FIB
	f.Rules, _ = c.PolicyRules(ctx)
	for _, r := range f.Rules {
		f.Routes = append(f.Routes, fib.Route{Table: r.Table, Protocol: r.Protocol})
	}
	c.each("pin ", func(text, _ string) {
		guest, link, _ := strings.Cut(text, "@")
		f.Routes = append(f.Routes, fib.Route{
			Dst: netip.MustParsePrefix(guest + "/32"), Link: len(link), Table: fib.MainTable, Protocol: fib.PinProtocol,
		})
	})
	c.each("rule ", func(to, priority string) {
		f.Rules = append(f.Rules, fib.Rule{To: netip.MustParsePrefix(to), Priority: len(priority), Protocol: fib.PinProtocol})
	})
	return f, nil
}

func (c calls) AddPin(ctx context.Context, link string, guest netip.Addr) error {
	return c.set(ctx, "pin "+guest.String()+"@"+link, "yes")
}

func (c calls) DelPin(ctx context.Context, link string, guest netip.Addr) error {
	return c.drop(ctx, "pin "+guest.String()+"@"+link)
}

func (c calls) AddPinRule(ctx context.Context, s step.PinRule) error {
	return c.set(ctx, "rule "+s.Prefix.String(), strings.Repeat("i", s.Priority))
}

func (c calls) DelPinRule(ctx context.Context, s step.PinRule) error {
	return c.drop(ctx, "rule "+s.Prefix.String())
}

// PolicyRules has those of exits, in any order.
func (c calls) PolicyRules(context.Context) ([]fib.Rule, error) {
	var rules []fib.Rule
	c.each("exit ", func(bridge, text string) {
		var table, priority int
		fmt.Sscanf(text, "%d %d", &table, &priority) //nolint:errcheck // AddExit wrote it
		for i, table := range []int{fib.MainTable, table} {
			rules = append(rules, fib.Rule{In: bridge, Table: table, Priority: priority + i, Protocol: fib.PinProtocol})
		}
	})
	return rules, nil
}

func (c calls) AddExit(ctx context.Context, s step.LeaveBy) error {
	return c.set(ctx, "exit "+s.Bridge, fmt.Sprintf("%d %d %s %s", s.Table, s.Priority, s.Via, s.Link))
}

func (c calls) DelExit(ctx context.Context, s step.LeaveBy) error {
	return c.drop(ctx, "exit "+s.Bridge)
}
