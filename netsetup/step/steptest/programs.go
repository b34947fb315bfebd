package steptest

import (
	"context"
	"io/fs"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
)

func (m *Memory) TellResolved(_ context.Context, link string, s resolved.Settings) error {
	return m.change(func() { m.State["dns "+link] = strings.Join(s.Commands(link), "\n") })
}

func (m *Memory) RevertResolved(_ context.Context, link string) error {
	return m.change(func() { delete(m.State, "dns "+link) })
}

func (m *Memory) TellResolvedBack(_ context.Context, s step.LinkDNS) error {
	return m.change(func() { m.State["dns "+s.NIC] = strings.Join(s.Settings.Commands(s.NIC), "\n") })
}

func (m *Memory) ReadConfig(_ context.Context, path string) (string, error) {
	text, ok := m.State["file "+path]
	if !ok {
		return "", fs.ErrNotExist
	}
	return text, nil
}

func (m *Memory) WriteConfig(_ context.Context, path, text string) error {
	return m.change(func() { m.State["file "+path] = text })
}

func (m *Memory) RemoveConfig(_ context.Context, path string) error {
	return m.change(func() { delete(m.State, "file "+path) })
}

func (m *Memory) Reload(_ context.Context, _ managers.Program) error { return nil }

func (m *Memory) SetManaged(_ context.Context, link string, managed bool) error {
	return m.change(func() {
		if m.State["unmanaged "+link] = "yes"; managed {
			delete(m.State, "unmanaged "+link)
		}
	})
}

func (m *Memory) Managed(_ context.Context, link string) (bool, error) {
	return m.State["unmanaged "+link] == "", nil
}

func (m *Memory) ReadFilters(_ context.Context) (filters.Ruleset, error) {
	r := filters.Ruleset{Tables: []filters.Table{{Engine: filters.IPTablesNFT, Family: nft.IP, Name: "filter"}}}
	for _, name := range []string{"INPUT", "FORWARD"} {
		c := filters.Chain{Name: name, Type: "filter", Hook: nft.Hook(strings.ToLower(name)), Policy: filters.Discard}
		for k := range m.State {
			if text, ok := strings.CutPrefix(k, "accept "); ok && strings.HasPrefix(text, "-A "+name) {
				c.Rules = append(c.Rules, filters.Rule{Verdict: filters.Accept, Text: text})
			}
		}
		r.Tables[0].Chains = append(r.Tables[0].Chains, c)
	}
	r.Programs = filters.Programs{filters.IPTablesNFT: {nft.IP: "/sbin/iptables-nft"}}
	return r, nil
}

func (m *Memory) InsertAccept(_ context.Context, a filters.AcceptRule) error {
	return m.change(func() { m.State["accept "+a.Text()] = "yes" })
}

func (m *Memory) DeleteAccept(_ context.Context, a filters.AcceptRule) error {
	return m.change(func() { delete(m.State, "accept "+a.Text()) })
}

func (m *Memory) SetZone(_ context.Context, z firewalld.Zone) error {
	return m.change(func() { m.State["zone "+z.Link] = z.Name })
}

func (m *Memory) UnsetZone(_ context.Context, z firewalld.Zone) error {
	return m.change(func() { delete(m.State, "zone "+z.Link) })
}

func (m *Memory) InZone(_ context.Context, z firewalld.Zone) (bool, error) {
	return m.State["zone "+z.Link] == z.Name, nil
}
