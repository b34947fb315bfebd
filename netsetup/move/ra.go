package move

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Flags of IPv6 routes (linux/ipv6_route.h). Only the kernel itself, for routes by router
// advertisements (RAs), and ioctl(2) can set them.
const (
	rtfUp        = 0x1
	rtfGateway   = 0x2
	rtfDefault   = 0x10000
	rtfAddrConf  = 0x40000
	rtfExpires   = 0x400000
	rtfRouteInfo = 0x800000
)

// in6Rtmsg is struct in6_rtmsg (linux/ipv6_route.h), the argument of SIOCADDRT.
type in6Rtmsg struct {
	dst, src, gateway [16]byte
	class             uint32
	dstLen, srcLen    uint16
	metric            uint32
	info              uint64 // when it expires, in 1/100 s from now
	flags             uint32
	index             int32
}

func (m in6Rtmsg) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(m.dst), int(m.dstLen))
}

// raSettings is how the kernel handles RAs of a link.
type raSettings struct {
	accepts   bool   // if a program handles them instead, its routes are like any others
	metric    uint32 // of default routes by RA
	hasMetric bool   // the sysctl ra_defrtr_metric exists, since kernel 5.12
}

// defaultRAMetric is IP6_RT_PRIO_USER (include/net/ip6_route.h).
const defaultRAMetric = 1024

// readRA reads how the kernel handles RAs of a link.
func readRA(link string) raSettings {
	value := func(name string) string {
		v, _ := host.ReadSysctl("net/ipv6/conf/" + link + "/" + name)
		return v
	}
	return newRASettings(value("accept_ra"), value("forwarding"), value("ra_defrtr_metric"))
}

// newRASettings interprets three sysctls, "" for one that does not exist
// (Documentation/networking/ip-sysctl.rst).
func newRASettings(acceptRA, forwarding, defaultMetric string) raSettings {
	s := raSettings{accepts: acceptRA == "2" || acceptRA == "1" && forwarding == "0", metric: defaultRAMetric}
	if n, err := strconv.ParseUint(defaultMetric, 10, 32); err == nil && n > 1 {
		s.metric, s.hasMetric = uint32(n), true
	}
	return s
}

// temporaryMetric returns the metric of a default route by RA on its new link. The next RA
// finds it wrong, so that the kernel makes its own route in place of this one. Kernels before
// 5.12 have no metric but 1024, and take this route for their own.
func (s raSettings) temporaryMetric() uint32 {
	if s.hasMetric {
		return s.metric - 1
	}
	return s.metric
}

// byRA reports whether the kernel has the route from an RA, or the route is one that
// advertised put in its place.
func (x *crossing) byRA(r rtnl.Route) bool {
	if !x.ra.accepts || r.Family() != unix.AF_INET6 || !r.Gateway().IsValid() || r.Expires() == 0 {
		return false
	}
	ours := r.Protocol() == unix.RTPROT_BOOT && r.Dst().Bits() == 0 && r.Metric() == x.ra.temporaryMetric()
	return r.Protocol() == unix.RTPROT_RA || ours
}

// advertised returns the routes by RA for the other link. The kernel would not take a route
// made by rtnetlink for a router's: it would ignore further RAs of that router, because a like
// route exists.
func (x *crossing) advertised() []in6Rtmsg {
	var list []in6Rtmsg
	for _, r := range x.held.Routes {
		if !x.byRA(r) {
			continue
		}
		m := in6Rtmsg{
			dst: r.Dst().Addr().As16(), gateway: r.Gateway().As16(), dstLen: uint16(r.Dst().Bits()), metric: r.Metric(),
			info: uint64(r.Expires()) * 100, flags: rtfUp | rtfGateway | rtfAddrConf | rtfExpires | r.PreferenceFlag(), index: int32(x.to.Index),
		}
		if r.Dst().Bits() == 0 {
			m.metric, m.flags = x.ra.temporaryMetric(), m.flags|rtfDefault
		} else {
			m.flags |= rtfRouteInfo
		}
		list = append(list, m)
	}
	return list
}

// solicitor returns the link-local address from which to ask the other link's routers for
// advertisements, false where the kernel would ignore these or there is no such address.
func (x *crossing) solicitor() (netip.Addr, bool) {
	for _, a := range x.held.Addrs {
		if x.ra.accepts && a.Local().Is6() && a.Local().IsLinkLocalUnicast() {
			return a.Local(), true
		}
	}
	return netip.Addr{}, false
}
