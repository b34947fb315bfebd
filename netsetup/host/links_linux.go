package host

import (
	"errors"
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
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadLink reads the link of that name or alternative name, without its addresses; ok is
// false if there is none. It needs no rights.
//
//	ip -d link show dev NAME
func ReadLink(name string) (link Link, ok bool, err error) {
	l, err := netlink.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound):
		return Link{}, false, nil
	case err != nil:
		return Link{}, false, fmt.Errorf("read link %q: %w", name, err)
	}
	return linkOf(l), true, nil
}

// ReadLinkByIndex reads the link with that index, as ReadLink does.
//
//	ip -d link show
func ReadLinkByIndex(index int) (link Link, ok bool, err error) {
	l, err := netlink.LinkByIndex(index)
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound):
		return Link{}, false, nil
	case err != nil:
		return Link{}, false, fmt.Errorf("read link %d: %w", index, err)
	}
	return linkOf(l), true, nil
}

// ReadLinks reads all links, without their addresses. It needs no rights.
//
//	ip -d link show
func ReadLinks() ([]Link, error) {
	list, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]Link, len(list))
	for i, l := range list {
		links[i] = linkOf(l)
	}
	return links, nil
}

// hardware is package netlink's word for the kind of links without IFLA_INFO_KIND, which
// no software made.
const hardware = "device"

// linkOf converts a link of package netlink, and reads from sysfs what that lacks.
func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	link := Link{
		Index: a.Index, Name: a.Name, AltNames: a.AltNames, Kind: l.Type(), Alias: a.Alias, MAC: a.HardwareAddr, PermMAC: a.PermHWAddr, MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		Ethernet: a.EncapType == "ether", Master: a.MasterIndex, Parent: a.ParentIndex,
	}
	sys := filepath.Join("/sys/class/net", a.Name)
	link.Wireless = link.Kind == hardware && (exists(filepath.Join(sys, "phy80211")) || exists(filepath.Join(sys, "wireless")))
	if v, ok := l.(*netlink.Macvlan); ok {
		link.OwnMAC = v.Mode != netlink.MACVLAN_MODE_PASSTHRU
	}
	if link.Kind == "bridge" {
		state, err := os.ReadFile(filepath.Join(sys, "bridge/stp_state"))
		link.STP = err == nil && strings.TrimSpace(string(state)) != "0"
	}
	return link
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ReadAddrs reads the usable addresses, of both families, of the link with that index. An
// IPv6 address is not usable while the kernel checks it for duplicates, or after it found
// one. It needs no rights.
//
//	ip addr show dev LINK -tentative -dadfailed
func ReadAddrs(link int) ([]netip.Prefix, error) {
	addrs, err := listAddrs()
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, a := range addrs {
		usable := a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
		if p, ok := prefixOf(a.IPNet); ok && a.LinkIndex == link && usable {
			list = append(list, p)
		}
	}
	return list, nil
}

// ReadGateways reads the gateways of the default routes by the link with that index, of
// both families and all tables, each once. It needs no rights.
//
//	ip route show table all default dev LINK
func ReadGateways(link int) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := dump.Whole(func() ([]netip.Addr, error) { return readGateways(family, link) })
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func readGateways(family, link int) ([]netip.Addr, error) {
	var list []netip.Addr
	err := rtnl.WalkRoutes(family, func(r rtnl.Route) {
		if r.Dst().Bits() == 0 && r.Link() == link && r.Gateway().IsValid() && !slices.Contains(list, r.Gateway()) {
			list = append(list, r.Gateway())
		}
	})
	return list, err
}

// listAddrs lists the addresses of all links.
func listAddrs() ([]netlink.Addr, error) {
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

// prefixOf converts an address with a mask; ok is false for nil.
func prefixOf(n *net.IPNet) (p netip.Prefix, ok bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}
