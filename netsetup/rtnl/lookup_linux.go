package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Question is what the kernel looks a packet's route up by. The packet is TCP to port 443, of
// root, as forwarded packets are.
type Question struct {
	To   netip.Addr
	From netip.Addr // not valid: the host has not chosen the address yet
	In   int        // index of the link that it comes in by; 0: the host sends it
	Mark uint32
}

// RouteOf asks the kernel for the route of a packet. The answer is the entry of the routing
// table, with all its nexthops. The error is the kernel's errno where there is no route:
// ENETUNREACH and EHOSTUNREACH for none, EINVAL for a blackhole, EACCES for a prohibited one.
// It needs no rights.
//
//	ip route get fibmatch TO from FROM iif IN mark MARK uid 0 ipproto tcp dport 443
func (c *Conn) RouteOf(q Question) (Route, error) {
	r, err := c.routeOf(q, unix.RTM_F_FIB_MATCH)
	if err != nil || r.Type() != unix.RTN_UNICAST {
		return r, err
	}
	if link, _ := r.Out(); link != 0 {
		return r, nil
	}
	// The entry of a nexthop object names no link where net.ipv4.nexthop_compat_mode is 0.
	return c.routeOf(q, 0)
}

func (c *Conn) routeOf(q Question, flags uint32) (Route, error) {
	request := familyHeader(unix.AF_INET6)
	if q.To.Is4() {
		request[0] = unix.AF_INET
	}
	request[1] = byte(q.To.BitLen()) // rtm_dst_len
	binary.NativeEndian.PutUint32(request[8:], flags)
	https := binary.BigEndian.AppendUint16(nil, 443)
	request = Append(request, Attr{unix.RTA_DST, q.To.AsSlice()}, Uint32(unix.RTA_UID, 0),
		Attr{unix.RTA_IP_PROTO, []byte{unix.IPPROTO_TCP}}, Attr{unix.RTA_DPORT, https})
	if q.From.IsValid() {
		request[2] = byte(q.From.BitLen()) // rtm_src_len
		request = Append(request, Attr{unix.RTA_SRC, q.From.AsSlice()})
	}
	if q.In != 0 {
		request = Append(request, Uint32(unix.RTA_IIF, uint32(q.In)))
	}
	if q.Mark != 0 {
		request = Append(request, Uint32(unix.RTA_MARK, q.Mark))
	}
	list, err := c.get(unix.RTM_GETROUTE, request)
	switch {
	case err != nil:
		return Route{}, explained(err)
	case len(list) == 0 || len(list[0]) < routeHeader:
		return Route{}, unix.ENETUNREACH
	}
	return Route{list[0]}, nil
}

// Out returns the index of the link by which the route leads, and its gateway, which is not
// valid on a link. Of several nexthops it is the first that works. The index is 0 of a
// blackhole and the like.
func (r Route) Out() (link int, gateway netip.Addr) {
	if link := r.uint32(routeHeader, unix.RTA_OIF); link != 0 {
		return int(link), r.Gateway()
	}
	hops := r.Hops()
	for _, h := range hops {
		if h.flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			return h.Link, h.Gateway
		}
	}
	if len(hops) > 0 {
		return hops[0].Link, hops[0].Gateway
	}
	return 0, netip.Addr{}
}
