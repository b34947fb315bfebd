package steptest

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
)

func (c calls) TellResolved(ctx context.Context, link string, s resolved.Settings) error {
	return c.set(ctx, "dns "+link, strings.Join(s.Commands(link), "\n"))
}

func (c calls) RevertResolved(ctx context.Context, link string) error {
	return c.drop(ctx, "dns "+link)
}

func (c calls) TellResolvedBack(ctx context.Context, s step.LinkDNS) error {
	return c.TellResolved(ctx, s.NIC, s.Settings)
}

func (c calls) ReadConfig(_ context.Context, path string) (string, error) {
	text, ok := c.get("file " + path)
	if !ok {
		return "", fs.ErrNotExist
	}
	return text, nil
}

func (c calls) WriteConfig(ctx context.Context, path, text string) error {
	return c.set(ctx, "file "+path, text)
}

func (c calls) RemoveConfig(ctx context.Context, path string) error {
	return c.drop(ctx, "file "+path)
}

// Reload fails for a program that State has as "deaf".
func (c calls) Reload(_ context.Context, p managers.Program) error {
	if _, deaf := c.get("deaf " + string(p)); deaf {
		return ErrInjected
	}
	return nil
}

func (c calls) SetManaged(ctx context.Context, link string, managed bool) error {
	return c.toggle(ctx, "unmanaged "+link, !managed)
}

func (c calls) Managed(_ context.Context, link string) (bool, error) {
	_, unmanaged := c.get("unmanaged " + link)
	return !unmanaged, nil
}

// ReadFilters has the chains INPUT and FORWARD of iptables-nft with the policy DROP, as
// Docker and ufw leave them, and every accept in its chain.
func (c calls) ReadFilters(_ context.Context) (filters.Ruleset, error) {
	r := filters.Ruleset{
		Tables:   []filters.Table{{Engine: filters.IPTablesNFT, Family: nft.IP, Name: "filter"}},
		Programs: filters.Programs{filters.IPTablesNFT: {nft.IP: "/sbin/iptables-nft"}},
	}
	for _, name := range []string{"INPUT", "FORWARD"} {
		r.Tables[0].Chains = append(r.Tables[0].Chains, filters.Chain{Name: name, Type: "filter", Hook: nft.Hook(strings.ToLower(name)), Policy: filters.Discard})
	}
	c.each("accept ", func(rest, comment string) {
		where, text, _ := strings.Cut(rest, " -A ")
		name, _, _ := strings.Cut(text, " ")
		at := strings.Split(where, " ")
		chain := chainOf(&r, filters.Table{Engine: filters.Engine(at[0]), Family: nft.Family(at[1]), Name: at[2]}, name)
		chain.Rules = append(chain.Rules, filters.Rule{Verdict: filters.Accept, Text: "-A " + text, Comment: comment})
	})
	return r, nil
}

// chainOf finds a chain, or adds it and its table.
func chainOf(r *filters.Ruleset, t filters.Table, chain string) *filters.Chain {
	i := slices.IndexFunc(r.Tables, func(o filters.Table) bool { return o.Engine == t.Engine && o.Family == t.Family && o.Name == t.Name })
	if i < 0 {
		i = len(r.Tables)
		r.Tables = append(r.Tables, t)
	}
	chains := &r.Tables[i].Chains
	j := slices.IndexFunc(*chains, func(o filters.Chain) bool { return o.Name == chain })
	if j < 0 {
		j = len(*chains)
		*chains = append(*chains, filters.Chain{Name: chain})
	}
	return &(*chains)[j]
}

func acceptKey(a filters.AcceptRule) string {
	return strings.Join([]string{"accept", string(a.Engine), string(a.Family), a.Table, a.Text()}, " ")
}

func (c calls) InsertAccept(ctx context.Context, a filters.AcceptRule) error {
	_, after, _ := strings.Cut(a.Spec, "--comment ")
	comment, _, _ := strings.Cut(after, " ")
	return c.set(ctx, acceptKey(a), strings.Trim(comment, `"`))
}

func (c calls) DeleteAccept(ctx context.Context, a filters.AcceptRule) error {
	return c.drop(ctx, acceptKey(a))
}

func (c calls) SetZone(ctx context.Context, z firewalld.Zone) error {
	return c.set(ctx, "zone "+z.Link, z.Name)
}

// UnsetZone leaves a link alone that is in another zone.
func (c calls) UnsetZone(ctx context.Context, z firewalld.Zone) error {
	return c.change(ctx, func(state map[string]string) {
		if state["zone "+z.Link] == z.Name {
			delete(state, "zone "+z.Link)
		}
	})
}

func (c calls) InZone(_ context.Context, z firewalld.Zone) (bool, error) {
	zone, _ := c.get("zone " + z.Link)
	return zone == z.Name, nil
}
