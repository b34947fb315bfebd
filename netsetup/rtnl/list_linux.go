package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addresses lists the addresses of the link with that index, of both families.
//
//	ip addr show dev LINK
func (c *Conn) Addresses(link int) ([]Address, error) {
	list, err := c.list(unix.RTM_GETADDR, make([]byte, addressHeader), addressHeader)
	var found []Address
	for _, m := range list {
		if a := (Address{m}); a.link() == link {
			found = append(found, a)
		}
	}
	return found, err
}

// Neighbors lists the neighbor table of a family, and the addresses that the host answers
// for (proxy ARP or NDP).
//
//	ip neigh show; ip neigh show proxy
func (c *Conn) Neighbors(family int) ([]Neighbor, error) {
	var found []Neighbor
	for _, flags := range []byte{0, unix.NTF_PROXY} { // the kernel lists the two apart
		request := familyHeader(family)
		request[10] = flags // ndm_flags
		list, err := c.list(unix.RTM_GETNEIGH, request, routeHeader)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			if n := (Neighbor{m}); n.Family() == family && n.Proxy() == (flags != 0) {
				found = append(found, n)
			}
		}
	}
	return found, nil
}

// Rules lists the policy rules of a family in the order in which the kernel applies them.
//
//	ip rule show
func (c *Conn) Rules(family int) ([]Rule, error) {
	list, err := c.list(unix.RTM_GETRULE, familyHeader(family), routeHeader)
	rules := make([]Rule, len(list))
	for i, m := range list {
		rules[i] = Rule{m}
	}
	return rules, err
}

// nexthopHeader is the length of struct nhmsg (linux/nexthop.h).
const nexthopHeader = 8

// Nexthops lists the nexthop objects, as the index of the link of each one by its number. Of
// a group it is that of its first member, of a blackhole 0.
//
//	ip nexthop show
func (c *Conn) Nexthops() (map[uint32]int, error) {
	list, err := c.list(unix.RTM_GETNEXTHOP, make([]byte, nexthopHeader), nexthopHeader)
	links := make(map[uint32]int, len(list))
	for _, m := range list {
		links[m.uint32(nexthopHeader, unix.NHA_ID)] = int(m.uint32(nexthopHeader, unix.NHA_OIF))
	}
	for _, m := range list {
		if first := m.attr(nexthopHeader, unix.NHA_GROUP); len(first) >= 4 { // struct nexthop_grp
			links[m.uint32(nexthopHeader, unix.NHA_ID)] = links[binary.NativeEndian.Uint32(first)]
		}
	}
	return links, err
}

// familyHeader returns a header of routeHeader bytes that asks for one family.
func familyHeader(family int) []byte {
	b := make([]byte, routeHeader)
	b[0] = byte(family)
	return b
}

// Attributes of RTM_GETNETCONF, and the length of its header (linux/netconf.h).
const (
	netconfHeader     = 4 // struct netconfmsg, and padding
	netconfIndex      = 1 // NETCONFA_IFINDEX
	netconfForwarding = 2 // NETCONFA_FORWARDING
)

// Forwarding reads net.ipv4.conf.LINK.forwarding of all links at once, "0" or "1" by the
// link's index. From /proc/sys it would take three system calls per link.
//
//	ip -4 netconf
func (c *Conn) Forwarding() (map[int]string, error) {
	list, err := c.list(unix.RTM_GETNETCONF, []byte{unix.AF_INET, 0, 0, 0}, netconfHeader)
	if err != nil {
		return nil, err
	}
	found := make(map[int]string, len(list))
	for _, m := range list {
		index, on := m.attr(netconfHeader, netconfIndex), m.attr(netconfHeader, netconfForwarding)
		if len(index) != 4 || len(on) != 4 {
			continue
		}
		link := int(int32(binary.NativeEndian.Uint32(index)))
		if link <= 0 { // "all" and "default"
			continue
		}
		if found[link] = "0"; binary.NativeEndian.Uint32(on) != 0 {
			found[link] = "1"
		}
	}
	return found, nil
}

// HasLink reports whether there is a link with that index. The kernel answers under the lock
// under which it deletes links.
//
//	ip link show
func (c *Conn) HasLink(link int) (bool, error) {
	_, err := c.get(unix.RTM_GETLINK, linkMessage(link))
	switch {
	case errors.Is(err, unix.ENODEV):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read link %d: %w", link, explained(err))
	}
	return true, nil
}

// ifReady is IF_READY of the kernel's include/net/if_inet6.h: IPv6 uses the link.
const ifReady = 0x80000000

// Ready reports whether IPv6 uses the link with that index. Before it does, the kernel
// drops a temporary address that it makes there, and after some tries makes no more.
func (c *Conn) Ready(link int) bool {
	list, err := c.get(unix.RTM_GETLINK, linkMessage(link))
	if err != nil || len(list) == 0 {
		return false
	}
	spec := Attrs(list[0].attr(linkHeader, unix.IFLA_AF_SPEC))
	flags := find(Attrs(find(spec, unix.AF_INET6)), unix.IFLA_INET6_FLAGS)
	return len(flags) == 4 && binary.NativeEndian.Uint32(flags)&ifReady != 0
}

// RouteTo asks the kernel for the route of an unmarked packet that the host sends from one of
// its addresses to another address. The error wraps the kernel's: ENETUNREACH where there is
// none, EINVAL for a blackhole route and where from is no address of the host.
//
//	ip route get TO from FROM
func (c *Conn) RouteTo(from, to netip.Addr) (Route, error) {
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	request := familyHeader(family)
	request[1], request[2] = byte(to.BitLen()), byte(from.BitLen()) // rtm_dst_len, rtm_src_len
	request = Append(request, Attr{unix.RTA_DST, to.AsSlice()}, Attr{unix.RTA_SRC, from.AsSlice()})
	list, err := c.get(unix.RTM_GETROUTE, request)
	if err == nil && (len(list) == 0 || len(list[0]) < routeHeader) {
		err = unix.EBADMSG
	}
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", to, explained(err))
	}
	return Route{list[0]}, nil
}
