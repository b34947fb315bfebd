package steptest

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

func (m *Memory) ReplaceRoutes(_ context.Context, link string, swaps []step.Swap) error {
	return m.change(func() {
		for _, s := range swaps {
			delete(m.State, "route "+string(s.Old.Message)+"@"+link)
			m.State["route "+string(s.New.Message)+"@"+link] = "yes"
		}
	})
}

func (m *Memory) MoveToBridge(_ context.Context, s step.MoveToBridge) error {
	return m.change(func() { m.State["master "+s.Link] = s.Bridge; m.State["host "+s.Bridge] = "moved" })
}

func (m *Memory) MoveBack(_ context.Context, s step.MoveToBridge) error {
	return m.change(func() { delete(m.State, "master "+s.Link); delete(m.State, "host "+s.Bridge) })
}

func (m *Memory) Ask(_ context.Context, _ string, want []host.Neighbor, _ time.Duration) ([]host.Neighbor, error) {
	return want, m.change(func() {})
}

func (m *Memory) Sysctl(_ context.Context, key string) (string, error) { return m.State["/"+key], nil }

func (m *Memory) SetSysctl(_ context.Context, key, value string) error {
	return m.change(func() { m.State["/"+key] = value })
}

func (m *Memory) AdoptTable(ctx context.Context, t nft.Table) error { return m.AddTable(ctx, t) }

func (m *Memory) HasTable(_ context.Context, t nft.Table) (bool, error) {
	comment, ok := m.State["table "+t.Name+string(t.Family)]
	return ok && comment == t.Comment, nil
}

func (m *Memory) AddTable(_ context.Context, t nft.Table) error {
	return m.change(func() { m.State["table "+t.Name+string(t.Family)] = t.Comment })
}

func (m *Memory) DelTable(_ context.Context, t nft.Table) error {
	return m.change(func() { delete(m.State, "table "+t.Name+string(t.Family)) })
}

func (m *Memory) FIB(_ context.Context) (host.FIB, error) {
	var f host.FIB
	for k := range m.State {
		if text, ok := strings.CutPrefix(k, "pin "); ok {
			guest, link, _ := strings.Cut(text, "@")
			f.Routes = append(f.Routes, host.FIBRoute{Dst: netip.MustParsePrefix(guest + "/32"), Link: len(link), Table: host.MainTable, Protocol: host.PinProtocol})
		}
		if text, ok := strings.CutPrefix(k, "rule "); ok {
			f.Rules = append(f.Rules, host.FIBRule{To: netip.MustParsePrefix(text), Priority: len(m.State[k]), Protocol: host.PinProtocol})
		}
	}
	return f, nil
}

func (m *Memory) AddPin(_ context.Context, link string, guest netip.Addr) error {
	return m.change(func() { m.State["pin "+guest.String()+"@"+link] = "yes" })
}

func (m *Memory) DelPin(_ context.Context, link string, guest netip.Addr) error {
	return m.change(func() { delete(m.State, "pin "+guest.String()+"@"+link) })
}

func (m *Memory) AddPinRule(_ context.Context, s step.PinRule) error {
	return m.change(func() { m.State["rule "+s.Prefix.String()] = strings.Repeat("i", s.Priority) })
}

func (m *Memory) DelPinRule(_ context.Context, s step.PinRule) error {
	return m.change(func() { delete(m.State, "rule "+s.Prefix.String()) })
}
