package host

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// uniqueLocal are the IPv6 prefixes that networks are chosen from (RFC 4193).
var uniqueLocal = netip.MustParsePrefix("fc00::/7")

// ObserveIPv6 adds what a plan of a network with IPv6 depends on besides: the sysctls of
// forwarding, and IPv6 routes of all tables, wide ones and those of unique local prefixes, one for
// each nexthop by a known link.
//
//	ip -6 route show table all
func (f *Facts) ObserveIPv6() error {
	if !f.HasIPv6 {
		return nil
	}
	places := f.places()
	routes, err := dump.Whole(func() ([]Route, error) {
		var list []Route
		objects := fib.Nexthops{}
		err := rtnl.WalkRoutes(unix.AF_INET6, func(r rtnl.Route) {
			if dst := r.Dst(); dst.Bits() > wideBits && !uniqueLocal.Overlaps(dst) || r.Table() == unix.RT_TABLE_LOCAL {
				return
			}
			for _, hop := range objects.Of(r) {
				i, known := places[hop.Link]
				route := Route{Dst: r.Dst(), Via: hop.Gateway, Table: r.Table(), Nowhere: fib.LeadsNowhere(r), RA: r.Protocol() == unix.RTPROT_RA}
				if known {
					route.Link = f.Links[i].Name
				}
				if known || route.Nowhere {
					list = append(list, route)
				}
			}
		})
		return list, errors.Join(err, objects.Err())
	})
	f.Routes6 = routes
	f.addForwarding6()
	return err
}

// addForwarding6 adds the sysctls that decide about forwarding IPv6, of links that are not qnet's.
// What cannot be read is not there: a link whose MTU is below 1280 has no IPv6.
func (f *Facts) addForwarding6() {
	read := func(link, name string) string {
		v, err := ReadSysctl(IPv6Key(link, name))
		if err == nil {
			f.Sysctls[IPv6Key(link, name)] = v
		}
		return v
	}
	all := read("all", Forwarding)
	names := []string{AcceptRA}
	if read("all", ForceForwarding) != "" {
		names = append(names, ForceForwarding)
	}
	f.Routers6 = nil
	if read("default", Forwarding) == "1" && all == "0" {
		f.Routers6 = []string{"default"}
	}
	for _, l := range f.Links {
		if l.Loopback || l.Ours() && !f.onLAN(l) {
			continue
		}
		for _, name := range names {
			read(l.Name, name)
		}
		if l.Ours() {
			read(l.Name, Solicitations)
		}
		if v, err := ReadSysctl(IPv6Key(l.Name, Forwarding)); err == nil && v == "1" && all == "0" {
			f.Routers6 = append(f.Routers6, l.Name)
		}
	}
}
