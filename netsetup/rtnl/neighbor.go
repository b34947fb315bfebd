package rtnl

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neighbor is a message of RTM_NEWNEIGH: an entry of the neighbor table, ip-neighbour(8).
type Neighbor struct{ Message }

// Family returns AF_INET or AF_INET6.
func (n Neighbor) Family() int { return int(n.Message[0]) }

// Link returns the index of the neighbor's link.
func (n Neighbor) Link() int { return int(binary.NativeEndian.Uint32(n.Message[4:])) }

func (n Neighbor) state() uint16 { return binary.NativeEndian.Uint16(n.Message[8:]) }

// Dst returns the neighbor's IP address.
func (n Neighbor) Dst() netip.Addr { return n.addr(routeHeader, unix.NDA_DST) }

// HardwareAddr returns the neighbor's MAC, nil without one.
func (n Neighbor) HardwareAddr() net.HardwareAddr { return n.attr(routeHeader, unix.NDA_LLADDR) }

// Proxy reports whether the host answers for this address (proxy ARP or NDP).
func (n Neighbor) Proxy() bool { return n.Message[10]&unix.NTF_PROXY != 0 }

// Static reports whether a program or an administrator set the entry: the kernel would
// not learn it again.
func (n Neighbor) Static() bool { return n.Proxy() || n.state()&unix.NUD_PERMANENT != 0 }

// Known reports whether the entry is static or holds a MAC that the kernel has learned.
func (n Neighbor) Known() bool {
	learned := uint16(unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE)
	return n.Static() || n.state()&learned != 0
}

// On returns the entry for the link with that index. The kernel confirms an entry that it
// had learned before it relies on it there.
func (n Neighbor) On(link int) Neighbor {
	out := n.edited(routeHeader, func(a Attr) (Attr, bool) {
		return a, a.Type != unix.NDA_CACHEINFO && a.Type != unix.NDA_PROBES
	})
	binary.NativeEndian.PutUint32(out[4:], uint32(link))
	if !n.Static() {
		binary.NativeEndian.PutUint16(out[8:], unix.NUD_STALE)
		out[10] &= unix.NTF_ROUTER
	}
	return Neighbor{out}
}
