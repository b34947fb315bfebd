package move

import (
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Flags of IPv6 routes (linux/ipv6_route.h) that only the kernel, which gives them
// to what RAs tell, and ioctl(2) can set.
const (
	rtfUp        = 0x1
	rtfGateway   = 0x2
	rtfDefault   = 0x10000
	rtfAddrConf  = 0x40000
	rtfExpires   = 0x400000
	rtfRouteInfo = 0x800000
)

// in6Rtmsg is struct in6_rtmsg (linux/ipv6_route.h).
type in6Rtmsg struct {
	dst, src, gateway [16]byte
	class             uint32
	dstLen, srcLen    uint16
	metric            uint32
	info              uint64 // when it expires, in 1/100 s
	flags             uint32
	index             int32
}

// readRA learns whether the kernel itself takes RAs on the link. Where a program
// does, its routes are like any other.
func (x *crossing) readRA(link string) {
	conf := "net/ipv6/conf/" + link + "/"
	accept, err := host.ReadSysctl(conf + "accept_ra")
	forwards, _ := host.ReadSysctl(conf + "forwarding")
	x.asks = err == nil && (accept == "2" || accept == "1" && forwards == "0")
	x.metric = 1024
	x.replaced = false
	if m, err := host.ReadSysctl(conf + "ra_defrtr_metric"); err == nil {
		n, err := strconv.ParseUint(m, 10, 32)
		if err == nil && n > 1 {
			x.metric, x.replaced = uint32(n), true
		}
	}
}

// raMetric is what a default route by RA gets on its new link: one that the next
// RA finds wrong, so that the kernel makes its own in place of ours. Kernels before
// 5.12 know no other than 1024, and take ours for their own.
func (x *crossing) raMetric() uint32 {
	if x.replaced {
		return x.metric - 1
	}
	return x.metric
}

// byRA reports whether the kernel has the route from an RA, or it is one that
// solicited put in its place.
func (x *crossing) byRA(r rtnl.Route) bool {
	if !x.asks || r.Family() != unix.AF_INET6 || !r.Gateway().IsValid() || r.Expires() == 0 {
		return false
	}
	ours := r.Protocol() == unix.RTPROT_BOOT && r.Dst().Bits() == 0 && r.Metric() == x.raMetric()
	return r.Protocol() == unix.RTPROT_RA || ours
}

// solicited gives the other link the routes by RA. A route made by netlink would
// not do: the kernel would not know it for a router's, and ignore further RAs of
// that router because a like route is there.
func (x *crossing) solicited() error {
	for _, r := range x.held.RouteList() {
		if !x.byRA(r) {
			continue
		}
		m := in6Rtmsg{
			dst: r.Dst().Addr().As16(), gateway: r.Gateway().As16(), dstLen: uint16(r.Dst().Bits()), metric: r.Metric(),
			info: uint64(r.Expires()) * 100, flags: rtfUp | rtfGateway | rtfAddrConf | rtfExpires | r.Preference(), index: int32(x.to.Index),
		}
		if r.Dst().Bits() == 0 {
			m.metric, m.flags = x.raMetric(), m.flags|rtfDefault
		} else {
			m.flags |= rtfRouteInfo
		}
		if err := addRoute6(m); err != nil {
			return fmt.Errorf("add route %s by RA to %q: %w", r.Dst(), x.to.Name, err)
		}
	}
	return nil
}

func addRoute6(m in6Rtmsg) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing follows from it
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&m)))
	if errno != 0 && errno != unix.EEXIST {
		return errno
	}
	return nil
}

// solicit asks the link's routers to advertise themselves, by a link-local address.
func (x *crossing) solicit() {
	for _, a := range x.held.AddressList() {
		if !x.asks || !a.Local().Is6() || !a.Local().IsLinkLocalUnicast() {
			continue
		}
		conn, err := packet.Listen(x.to.Index, packet.All, []bpf.Instruction{bpf.RetConstant{Val: 0}})
		if err != nil {
			return
		}
		conn.Write(packet.RouterSolicitation(x.to.MAC, a.Local())) //nolint:errcheck // routers advertise themselves anyway
		conn.Close()                                               //nolint:errcheck // nothing follows from it
		return
	}
}
