// Package steptest holds a host in memory, for tests that need no root: it keeps what
// steps change, and fails the calls that a test names.
//
// It knows what steps ask, and no more of the kernel: a macvtap needs no uplink, a route
// no address. What the kernel does with the same steps, the tests of package kernel show.
package steptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// ErrInjected is what a call returns that Memory fails.
var ErrInjected = errors.New("injected")

// Memory is a host. Its Kernel may be used from several goroutines.
type Memory struct {
	// State has one entry for each thing on the host: "link NAME" with its alias, "up NAME",
	// "master NAME" with the bridge, "/KEY" with a sysctl's value, and so on.
	State map[string]string
	// Calls counts the calls that change something.
	Calls int
	// Warnings are the texts passed to Kernel.Warn.
	Warnings []string

	Fail  int  // the first call to fail, counted from 1; 0: none
	Times int  // how many calls fail; 0 is 1
	After bool // a failing call makes its change

	// Ask returns those neighbours that answer; nil: all that are asked.
	Ask func(want []host.Neighbor) []host.Neighbor

	mu sync.Mutex // all of the above
}

// Of returns a Memory with what steps may change of the host that the facts describe.
func Of(f host.Facts) *Memory {
	m := &Memory{State: map[string]string{}}
	for _, l := range f.Links {
		m.State["link "+l.Name] = l.Alias
		if l.Up {
			m.State["up "+l.Name] = "yes"
		}
		if b, ok := f.LinkByIndex(l.Master); ok && l.Master != 0 {
			m.State["master "+l.Name] = b.Name
		}
		if f.HasIPv6 {
			m.State["/"+host.DisableIPv6Key(l.Name)] = "0"
		}
	}
	for key, value := range f.Sysctls {
		m.State["/"+key] = value
	}
	if c := f.NIC.Client; c.Link != "" {
		m.State["dns "+c.Link] = strings.Join(f.NIC.DNS.Commands(c.Link), "\n")
	}
	return m
}

// Kernel is the Memory as steps see it.
func (m *Memory) Kernel() step.Kernel {
	c := calls{m}
	return step.Kernel{
		Links: c, Devices: c, BridgePorts: c, Addresses: c, Pins: c, Exits: c, Routes: c, Mover: c, Neighbors: c, Sysctls: c, Tables: c, Filters: c,
		Zones: c, Resolver: c, Managers: c, NetworkManager: c, Warn: func(text string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.Warnings = append(m.Warnings, text)
		},
	}
}

// calls are the parts of step.Kernel.
type calls struct{ m *Memory }

// get returns an entry of the State, false where there is none.
func (c calls) get(key string) (string, bool) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	value, ok := c.m.State[key]
	return value, ok
}

// each calls f with the rest of each key that begins with the prefix.
func (c calls) each(prefix string, f func(rest, value string)) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for k, v := range c.m.State {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			f(rest, v)
		}
	}
}

// change makes a change. It fails, before or after that, where the test says so or the
// context has ended.
func (c calls) change(ctx context.Context, f func(state map[string]string)) error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.Calls++
	fails := m.Fail > 0 && m.Calls >= m.Fail && m.Calls < m.Fail+max(m.Times, 1)
	if !fails || m.After {
		f(m.State)
	}
	if fails {
		return ErrInjected
	}
	return nil
}

// set sets one entry.
func (c calls) set(ctx context.Context, key, value string) error {
	return c.change(ctx, func(state map[string]string) { state[key] = value })
}

// drop removes one entry.
func (c calls) drop(ctx context.Context, key string) error {
	return c.change(ctx, func(state map[string]string) { delete(state, key) })
}

// toggle sets or removes one entry.
func (c calls) toggle(ctx context.Context, key string, on bool) error {
	if on {
		return c.set(ctx, key, "yes")
	}
	return c.drop(ctx, key)
}

// Script joins the commands of steps, in order.
func Script(steps []step.Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

// Diff lists the entries that the second state lacks ("-"), and those that only it has ("+"),
// one a line; "" if the two are equal.
func Diff(a, b map[string]string) string {
	var lines []string
	add := func(sign string, of, other map[string]string) {
		for k, v := range of {
			if o, ok := other[k]; !ok || o != v {
				lines = append(lines, fmt.Sprintf("%s %s = %q", sign, k, v))
			}
		}
	}
	add("-", a, b)
	add("+", b, a)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
