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

// observeNIC reads what a plan must know besides of the link that a bridge joins.
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
	nic.Sysctls = changedSysctls(up)
	nic.RPFilter, _ = ReadSysctl(RPFilterKey(up.Name))
	if off, err := ReadSysctl("net/ipv6/conf/" + up.Name + "/disable_ipv6"); err == nil && off == "0" {
		nic.GenMode, _ = ReadSysctl(GenModeKey(up.Name))
	}
	nic.DNS = ReadDNS(ctx, up)
	if nic.Hooks, err = hooks(up); err != nil {
		return nic, err
	}
	nic.Client, err = managers.Observe(ctx, up.Name)
	return nic, err
}

// changedSysctls lists the link's sysctls that differ from those of a new link.
func changedSysctls(up Link) []LinkSysctl {
	var list []LinkSysctl
	for _, dir := range []string{"net/ipv4/conf", "net/ipv6/conf", "net/ipv4/neigh", "net/ipv6/neigh"} {
		entries, _ := os.ReadDir(filepath.Join("/proc/sys", dir, up.Name))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode().Perm()&0o200 == 0 || slices.Contains(derived, e.Name()) {
				continue
			}
			s := LinkSysctl{Dir: dir, Name: e.Name()}
			unset, unsetErr := ReadSysctl(s.Key("default"))
			s.Value, err = ReadSysctl(s.Key(up.Name))
			same := s.Value == unset || s.Name == "mtu" && s.Value == strconv.Itoa(up.MTU)
			if err == nil && unsetErr == nil && !same {
				list = append(list, s)
			}
		}
	}
	return list
}

// derived are sysctls that another one shows in another unit, and stable_secret, which
// belongs to an addr_gen_mode that plans refuse.
var derived = []string{"base_reachable_time", "retrans_time", "stable_secret"}

// hooks lists what handles the link's frames before a bridge would: an XDP program, and the
// qdiscs that tc filters hang on.
//
//	ip link show dev LINK; tc qdisc show dev LINK
func hooks(up Link) ([]string, error) {
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

// resolvedTimeout bounds how long systemd-resolved may take to answer.
const resolvedTimeout = 3 * time.Second

// ReadDNS reads the settings that systemd-resolved has for a link: none where it does not
// run or does not answer within 3 s.
//
//	resolvectl status LINK
func ReadDNS(ctx context.Context, l Link) resolved.Settings {
	ctx, cancel := context.WithTimeout(ctx, resolvedTimeout)
	defer cancel()
	s, err := resolved.Observe(ctx, l.Index)
	if err != nil {
		return resolved.Settings{}
	}
	return s
}
