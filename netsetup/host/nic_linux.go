package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

func observeNIC(ctx context.Context, up Link) (NIC, error) {
	var nic NIC
	c, err := rtnl.Dial()
	if err != nil {
		return nic, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	if nic.Held, err = ReadHoldings(c, up); err != nil {
		return nic, fmt.Errorf("read what the host has by %q: %w", up.Name, err)
	}
	nic.Conf = confOf(up)
	nic.RPFilter, _ = ReadSysctl(RPFilterKey(up.Name))
	if off, err := ReadSysctl("net/ipv6/conf/" + up.Name + "/disable_ipv6"); err == nil && off == "0" {
		nic.GenMode, _ = ReadSysctl(GenModeKey(up.Name))
	}
	nic.DNS = ObserveDNS(ctx, up)
	if nic.Programs, err = programs(up); err != nil {
		return nic, err
	}
	nic.Client, err = managers.Observe(ctx, up.Name)
	return nic, err
}

// confOf lists the link's sysctls that differ from those of a new link.
func confOf(up Link) []Conf {
	var list []Conf
	for _, dir := range []string{"net/ipv4/conf", "net/ipv6/conf", "net/ipv4/neigh", "net/ipv6/neigh"} {
		entries, _ := os.ReadDir(filepath.Join("/proc/sys", dir, up.Name))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode().Perm()&0o200 == 0 || slices.Contains(derived, e.Name()) {
				continue
			}
			c := Conf{Dir: dir, Name: e.Name()}
			plain, plainErr := ReadSysctl(c.Key("default"))
			c.Value, err = ReadSysctl(c.Key(up.Name))
			same := c.Value == plain || c.Name == "mtu" && c.Value == strconv.Itoa(up.MTU)
			if err == nil && plainErr == nil && !same {
				list = append(list, c)
			}
		}
	}
	return list
}

// derived are sysctls that others tell already, in another unit; stable_secret goes
// with an addr_gen_mode that is refused.
var derived = []string{"base_reachable_time", "retrans_time", "stable_secret"}

// programs lists what handles the link's frames before a bridge would.
func programs(up Link) ([]string, error) {
	l, err := netlink.LinkByIndex(up.Index)
	if err != nil {
		return nil, fmt.Errorf("read link %q: %w", up.Name, err)
	}
	var list []string
	if xdp := l.Attrs().Xdp; xdp != nil && xdp.Attached {
		list = append(list, "an XDP program")
	}
	qdiscs, err := dump.Whole(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(l) })
	if err != nil {
		return nil, fmt.Errorf("list qdiscs of %q: %w", up.Name, err)
	}
	for _, q := range qdiscs {
		if kind := q.Type(); kind == "clsact" || kind == "ingress" {
			list = append(list, "the tc qdisc "+kind)
		}
	}
	return list, nil
}

// lookTimeout is how long systemd-resolved may take to answer.
const lookTimeout = 3 * time.Second

// ObserveDNS reads what systemd-resolved was told of a link; one that does not
// answer was told nothing.
func ObserveDNS(ctx context.Context, l Link) resolved.Settings {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, err := resolved.Observe(ctx, l.Index)
	if err != nil {
		return resolved.Settings{}
	}
	return s
}
