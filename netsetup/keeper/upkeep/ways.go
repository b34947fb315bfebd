package upkeep

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ways tells which events can give the host another way out. A routing daemon changes a
// hundred routes a second, all of them by links that have others. What counts is a wide route,
// such as a default route or what VPNs have in its place, and the first route by a link.
type ways struct {
	known map[int]bool // links by which a route came; negative: ids of nexthop objects
}

// wideBits is the longest prefix of a wide route, in bits. Routing daemons have few of them.
const wideBits = 8

// knownLimit bounds the memory of ways, in entries. A routing daemon gives each new set of
// nexthops a new id.
const knownLimit = 4096

// waysOf returns the ways of a network that starts. The routes of its own bridge and those of
// links that are its uplinks already give it none. Of a link that is not there, the first
// route will.
func waysOf(p plan.Plan) *ways {
	w := &ways{known: map[int]bool{}}
	for _, name := range append(slices.Clone(p.Uplinks), p.Bridge) {
		if l, err := net.InterfaceByName(name); err == nil {
			w.known[l.Index] = true
		}
	}
	return w
}

// matters reports whether the event is to be looked into. A link that is down has lost its
// routes.
func (w *ways) matters(m netlink.Message) bool {
	switch kindOf(m) {
	case links:
		w.forget(m)
		return false
	case routes4, routes6:
		r, ok := routeOf(m)
		return ok && (r.Dst().Bits() <= wideBits || m.Header.Type == unix.RTM_NEWROUTE && w.first(r))
	default: // addresses and rules change seldom
		return true
	}
}

// first reports whether the route leads by a link that is not known, and makes it known.
func (w *ways) first(r rtnl.Route) bool {
	by := []int{r.Link()}
	for _, h := range r.Hops() {
		by = append(by, h.Link)
	}
	if id := r.Nexthop(); id != 0 && r.Link() == 0 {
		by = append(by, -int(id)) // net.ipv4.nexthop_compat_mode is off
	}
	found := false
	for _, link := range by {
		if link == 0 || w.known[link] {
			continue
		}
		if len(w.known) >= knownLimit {
			clear(w.known)
		}
		w.known[link], found = true, true
	}
	return found
}

// forget forgets a link that is deleted or set down (struct ifinfomsg).
func (w *ways) forget(m netlink.Message) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return
	}
	index, flags := binary.NativeEndian.Uint32(m.Data[4:]), binary.NativeEndian.Uint32(m.Data[8:])
	if m.Header.Type == unix.RTM_DELLINK || flags&unix.IFF_UP == 0 {
		delete(w.known, int(int32(index)))
	}
}

// about tells which events can take addresses of a prefix: routes that overlap it, but for the
// pins that the keeper adds, and rules.
func about(prefix netip.Prefix) func(netlink.Message) bool {
	return func(m netlink.Message) bool {
		r, ok := routeOf(m)
		if !ok {
			return true
		}
		pin := m.Header.Type == unix.RTM_NEWROUTE && r.Protocol() == fib.PinProtocol
		return !pin && r.Dst().Overlaps(prefix)
	}
}

// routeOf returns the route that the event is about; ok is false for another event.
func routeOf(m netlink.Message) (r rtnl.Route, ok bool) {
	ok = kindOf(m)&(routes4|routes6) != 0 && len(m.Data) >= unix.SizeofRtMsg
	return rtnl.Route{Message: m.Data}, ok
}
