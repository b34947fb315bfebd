package steptest

import (
	"context"
	"io/fs"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Link makes a link of qnet's a bridge or a tun by its name. A link's index is the length
// of its name.
func (c calls) Link(_ context.Context, name string) (host.Link, bool, error) {
	alias, ok := c.get("link " + name)
	l := host.Link{Index: len(name), Name: name, Alias: alias, Kind: "tun"}
	if strings.HasPrefix(name, "qn-") {
		l.Kind = "bridge"
	}
	_, l.Up = c.get("up " + name)
	_, l.Carrier = c.get("open " + name)
	if master, ok := c.get("master " + name); ok {
		l.Master = len(master)
	}
	if mtu, ok := c.get("mtu " + name); ok {
		l.MTU, _ = strconv.Atoi(mtu)
	}
	return l, ok, nil
}

func (c calls) ListLinks(ctx context.Context) ([]host.Link, error) {
	var names []string
	c.each("link ", func(name, _ string) { names = append(names, name) })
	var links []host.Link
	for _, name := range names {
		l, _, _ := c.Link(ctx, name)
		links = append(links, l)
	}
	return links, nil
}

func (c calls) AddBridge(ctx context.Context, b step.AddBridge) error {
	return c.set(ctx, "link "+b.Name, b.Alias)
}

func (c calls) AddTap(ctx context.Context, name, alias string, _ int) error {
	return c.set(ctx, "link "+name, alias)
}

func (c calls) AddMacvtap(ctx context.Context, s step.AddMacvtap) error {
	return c.set(ctx, "link "+s.Name, s.Alias)
}

// DelLinks deletes what belongs to the links, too.
func (c calls) DelLinks(ctx context.Context, names []string) error {
	return c.change(ctx, func(state map[string]string) {
		for _, name := range names {
			maps.DeleteFunc(state, func(k, _ string) bool {
				return strings.HasSuffix(k, " "+name) || strings.Contains(k, "/"+name+"/") || strings.HasSuffix(k, "@"+name)
			})
		}
	})
}

func (c calls) SetMaster(ctx context.Context, link, bridge string) error {
	if bridge == "" {
		return c.drop(ctx, "master "+link)
	}
	return c.set(ctx, "master "+link, bridge)
}

func (c calls) IsolatePort(ctx context.Context, link string) error {
	return c.set(ctx, "isolated "+link, "yes")
}

func (c calls) PortIsolated(_ context.Context, link string) (bool, error) {
	_, isolated := c.get("isolated " + link)
	return isolated, nil
}

func (c calls) SetUp(ctx context.Context, link string, up bool) error {
	return c.toggle(ctx, "up "+link, up)
}

// Rename moves the link's alias to the new name, and nothing else of the link.
func (c calls) Rename(ctx context.Context, link, name string) error {
	return c.change(ctx, func(state map[string]string) {
		state["link "+name] = state["link "+link]
		delete(state, "link "+link)
	})
}

func (c calls) SetMTU(ctx context.Context, link string, mtu int) error {
	return c.set(ctx, "mtu "+link, strconv.Itoa(mtu))
}

func (c calls) AddAddr(ctx context.Context, link string, p netip.Prefix) error {
	return c.set(ctx, "addr "+p.String()+"@"+link, "yes")
}

func (c calls) Addrs(_ context.Context, link string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	c.each("addr ", func(text, _ string) {
		if p, ok := strings.CutSuffix(text, "@"+link); ok {
			list = append(list, netip.MustParsePrefix(p))
		}
	})
	return list, nil
}

func (c calls) CarriesHost(_ context.Context, bridge string) (bool, error) {
	_, carries := c.get("host " + bridge)
	return carries, nil
}

// Sysctl returns fs.ErrNotExist for a key of a link that is not there.
func (c calls) Sysctl(_ context.Context, key string) (string, error) {
	value, ok := c.get("/" + key)
	if parts := strings.Split(key, "/"); !ok && len(parts) == 5 {
		_, there := c.get("link " + parts[3])
		if there = there || parts[3] == "all" || parts[3] == "default"; !there {
			return "", fs.ErrNotExist
		}
	}
	return value, nil
}

func (c calls) SetSysctl(ctx context.Context, key, value string) error {
	return c.set(ctx, "/"+key, value)
}

func tableKey(t nft.Table) string { return "table " + t.Name + string(t.Family) }

func (c calls) AddTable(ctx context.Context, t nft.Table) error {
	return c.set(ctx, tableKey(t), t.Comment)
}

func (c calls) AdoptTable(ctx context.Context, t nft.Table) error { return c.AddTable(ctx, t) }

func (c calls) HasTable(_ context.Context, t nft.Table) (bool, error) {
	comment, ok := c.get(tableKey(t))
	return ok && comment == t.Comment, nil
}

func (c calls) MarkedTables(_ context.Context, mark string) ([]nft.Table, error) {
	var list []nft.Table
	c.each("table ", func(key, comment string) {
		if comment != mark && !strings.HasPrefix(comment, mark+"/") {
			return
		}
		for _, family := range []nft.Family{nft.INet, nft.NetDev, nft.Bridge} {
			if name, ok := strings.CutSuffix(key, string(family)); ok {
				list = append(list, nft.Table{Name: name, Family: family, Comment: comment})
			}
		}
	})
	return list, nil
}

// DelTable leaves a table alone that does not bear the comment.
func (c calls) DelTable(ctx context.Context, t nft.Table) error {
	return c.change(ctx, func(state map[string]string) {
		if state[tableKey(t)] == t.Comment {
			delete(state, tableKey(t))
		}
	})
}
