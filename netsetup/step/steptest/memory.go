// Package steptest holds a host in memory for tests of steps: it keeps only what steps
// change, and fails the call that a test names.
package steptest

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Memory is a Kernel that holds only what steps change, and fails one call.
type Memory struct {
	mu    sync.Mutex // links and tables are deleted side by side
	State map[string]string
	Calls int
	Fail  int // the call to fail, from 1; 0 is none
	Times int // how often it fails, once if 0
	After bool
}

var ErrInjected = errors.New("injected")

// change makes a change, and fails before or after it.
func (m *Memory) change(f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Calls++
	fails := m.Fail > 0 && m.Calls >= m.Fail && m.Calls < m.Fail+max(m.Times, 1)
	if fails && !m.After {
		return ErrInjected
	}
	f()
	if fails {
		return ErrInjected
	}
	return nil
}

func (m *Memory) Link(_ context.Context, name string) (host.Link, bool, error) {
	alias, ok := m.State["link "+name]
	l := host.Link{Index: len(name), Name: name, Alias: alias, Kind: "tun"}
	if strings.HasPrefix(name, "qn-") {
		l.Kind = "bridge"
	}
	l.Up = m.State["up "+name] != ""
	if master := m.State["master "+name]; master != "" {
		l.Master = len(master)
	}
	return l, ok, nil
}

func (m *Memory) AddBridge(_ context.Context, b step.AddBridge) error {
	return m.change(func() { m.State["link "+b.Name] = b.Alias })
}

func (m *Memory) AddTap(_ context.Context, name, alias string, _ int) error {
	return m.change(func() { m.State["link "+name] = alias })
}

func (m *Memory) AddMacvtap(_ context.Context, s step.AddMacvtap) error {
	return m.change(func() { m.State["link "+s.Name] = s.Alias })
}

func (m *Memory) DelLinks(_ context.Context, names []string) error {
	return m.change(func() {
		for _, name := range names {
			maps.DeleteFunc(m.State, func(k, _ string) bool {
				return strings.HasSuffix(k, " "+name) || strings.Contains(k, "/"+name+"/") || strings.HasSuffix(k, "@"+name)
			})
		}
	})
}

func (m *Memory) SetMaster(_ context.Context, link, bridge string) error {
	return m.change(func() {
		if m.State["master "+link] = bridge; bridge == "" {
			delete(m.State, "master "+link)
		}
	})
}

func (m *Memory) SetUp(_ context.Context, link string, up bool) error {
	return m.change(func() {
		if m.State["up "+link] = "yes"; !up {
			delete(m.State, "up "+link)
		}
	})
}

func (m *Memory) SetMTU(_ context.Context, link string, mtu int) error {
	return m.change(func() { m.State["mtu "+link] = strconv.Itoa(mtu) })
}

func (m *Memory) AddAddr(_ context.Context, link string, p netip.Prefix) error {
	return m.change(func() { m.State["addr "+p.String()+"@"+link] = "yes" })
}

func (m *Memory) CarriesHost(_ context.Context, bridge string) (bool, error) {
	return m.State["host "+bridge] != "", nil
}

func (m *Memory) ListLinks(ctx context.Context) ([]host.Link, error) {
	var links []host.Link
	for k := range m.State {
		if name, ok := strings.CutPrefix(k, "link "); ok {
			l, _, _ := m.Link(ctx, name)
			links = append(links, l)
		}
	}
	return links, nil
}

func (m *Memory) Addrs(_ context.Context, link string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for k := range m.State {
		if text, ok := strings.CutPrefix(k, "addr "); ok && strings.HasSuffix(text, "@"+link) {
			list = append(list, netip.MustParsePrefix(strings.TrimSuffix(text, "@"+link)))
		}
	}
	return list, nil
}

// Kernel is the Memory as steps see it.
func (m *Memory) Kernel() step.Kernel {
	return step.Kernel{
		Links: m, Devices: m, Addresses: m, Routes: m, Mover: m, Sysctls: m, Tables: m, Filters: m,
		Zones: m, Resolver: m, Managers: m, Warn: func(string) {},
	}
}

// Script joins the commands of steps, in order.
func Script(steps []step.Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}
