package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Query says what Observe reads for one network.
type Query struct {
	// LAN: also what the host has by the link that a bridge would join, named Uplink, or
	// for "" the link of the default route.
	LAN    bool
	Uplink string
	// Original puts back, among the sysctls, the values from before networks that run
	// changed them (journal.Original). Nil changes none.
	Original func(sysctls map[string]string)
	// Ask: also which gateways answer on that link, and Peer if it is a neighbor there.
	// Asking takes a second where one does not answer, and needs CAP_NET_RAW.
	Ask  bool
	Peer netip.Addr // the other end of the session that qnet runs in, if any
}

// Observe reads everything that a plan depends on, as the calling thread's network
// namespace shows it. It changes nothing, and needs no rights but for Query.Ask. What a
// plan can do without is named in Facts.Unknown where it cannot be read.
func Observe(ctx context.Context, q Query) (Facts, error) {
	f, err := ObserveNetwork()
	if err != nil {
		return f, err
	}
	if q.Original != nil {
		q.Original(f.Sysctls)
	}
	f.Configurators = managers.Running(ctx)
	if f.Firewalld, err = firewalld.Observe(ctx); err != nil {
		f.Unknown = append(f.Unknown, err.Error())
	}
	up, ok := f.LANLink(q.Uplink)
	if !q.LAN || !ok || up.Kind == "bridge" {
		return f, nil // a plan refuses a link that is not there
	}
	if f.NIC, err = observeNIC(ctx, up); err != nil || !q.Ask {
		return f, err
	}
	return f, f.askNeighbors(ctx, up, q.Peer)
}

// ObserveNetwork reads the network alone: links, addresses, routes, rules, resolvers,
// forwarding and packet filters.
func ObserveNetwork() (Facts, error) {
	f := Facts{Sysctls: map[string]string{}}
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return f, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		f.Links = append(f.Links, LinkFact(l))
	}
	if err := observeAddresses(&f); err != nil {
		return f, err
	}
	if err := observeRoutes(&f); err != nil {
		return f, err
	}
	if err := observeForwarding(&f); err != nil {
		return f, err
	}
	_, err = os.Stat("/proc/sys/net/ipv6")
	f.HasIPv6 = err == nil
	f.Resolvers = append(resolvers("/etc/resolv.conf"), resolvers("/run/systemd/resolve/resolv.conf")...)
	f.Defined = definedNetworks("/")
	if f.Rules, err = ReadRules(); err != nil {
		return f, err
	}
	f.Filters = read.Ruleset()
	return f, nil
}

func observeForwarding(f *Facts) error {
	if v, err := ReadSysctl(IPForward); err == nil {
		f.Sysctls[IPForward] = v
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	forwarding, err := c.Forwarding()
	if err != nil {
		return err
	}
	for _, l := range f.Links {
		if v, ok := forwarding[l.Index]; ok {
			f.Sysctls[ForwardingKey(l.Name)] = v
		}
	}
	return nil
}

// hardware is the kind of links without IFLA_INFO_KIND, in package netlink's words.
const hardware = "device"

func LinkFact(l netlink.Link) Link {
	a := l.Attrs()
	fact := Link{
		Index: a.Index, Name: a.Name, Kind: l.Type(), Alias: a.Alias, MAC: a.HardwareAddr, MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		Ethernet: a.EncapType == "ether", Master: a.MasterIndex, Parent: a.ParentIndex,
	}
	sys := filepath.Join("/sys/class/net", a.Name)
	for _, mark := range []string{"phy80211", "wireless"} {
		if fact.Kind != hardware {
			break // made by software
		}
		if _, err := os.Stat(filepath.Join(sys, mark)); err == nil {
			fact.Wireless = true
		}
	}
	if fact.Kind == "bridge" {
		state, err := os.ReadFile(filepath.Join(sys, "bridge/stp_state"))
		fact.STP = err == nil && strings.TrimSpace(string(state)) != "0"
	}
	return fact
}

// places finds links by their index: a host may have thousands of routes by
// thousands of links.
func (f Facts) places() map[int]int {
	places := make(map[int]int, len(f.Links))
	for i, l := range f.Links {
		places[l.Index] = i
	}
	return places
}

func observeAddresses(f *Facts) error {
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	places := f.places()
	for _, a := range addrs {
		i, known := places[a.LinkIndex]
		if p, ok := PrefixOf(a.IPNet); ok && known {
			f.Links[i].Addresses = append(f.Links[i].Addresses, p)
		}
	}
	return nil
}

func observeRoutes(f *Facts) error {
	every := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, every, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	places := f.places()
	f.Routes = slices.Grow(f.Routes, len(routes))
	for _, r := range routes {
		dst, ok := PrefixOf(r.Dst)
		if !ok {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		hops := append([]*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}, r.MultiPath...)
		for _, hop := range hops {
			name := ""
			i, known := places[hop.LinkIndex]
			if known {
				name = f.Links[i].Name
			}
			if known || len(r.MultiPath) == 0 {
				via, _ := netip.AddrFromSlice(hop.Gw)
				f.Routes = append(f.Routes, Route{Dst: dst, Link: name, Via: via.Unmap(), Table: r.Table})
			}
		}
	}
	return nil
}

func PrefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}

// resolvers reads the name servers of a resolv.conf(5).
func resolvers(path string) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range resolvconf.Nameservers(path) {
		addrs = append(addrs, a.WithZone(""))
	}
	return addrs
}
