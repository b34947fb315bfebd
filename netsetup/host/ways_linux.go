package host

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// addWays adds the ways of the host's packets to the Internet, IPv4 before IPv6: that of its
// ordinary packets, and then those of the packets that carry a VPN. Those bear a mark that a
// policy rule knows, or go by the default route of the table main, before which the VPN's
// routes are.
func addWays(f *Facts) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	for _, samples := range [][]netip.Addr{samples4, samples6} {
		marks, err := marksOf(c, samples)
		if err != nil {
			return err
		}
		for _, mark := range marks {
			if w, ok := askWay(c, samples, mark); ok {
				f.Ways = append(f.Ways, w)
			}
		}
		if samples[0].Is4() {
			f.Ways = append(f.Ways, f.mainWays()...)
		}
	}
	return nil
}

// askWay asks the kernel for the way of packets with a mark.
func askWay(c *rtnl.Conn, samples []netip.Addr, mark uint32) (Way, bool) {
	var ways []Way
	for _, to := range samples {
		// Each error says that there is no such route, or no such family.
		if r, err := c.RouteOf(rtnl.Question{To: to, Mark: mark}); err == nil && r.Type() == unix.RTN_UNICAST {
			link, via := r.Out()
			ways = append(ways, Way{Link: link, Via: via, IPv6: to.Is6()})
		}
	}
	return most(ways, len(samples))
}

// mainWays returns the ways of the IPv4 default routes of the table main. The kernel lists
// them in the order in which it prefers them.
func (f *Facts) mainWays() []Way {
	var ways []Way
	for _, r := range f.Outward {
		if r.Dst.Bits() == 0 && r.Table == MainTable && r.Link != 0 {
			ways = append(ways, Way{Link: r.Link})
		}
	}
	return ways
}

// marksOf returns the marks that policy rules of the samples' family know, each once. The
// first is 0, which packets have that bear none.
func marksOf(c *rtnl.Conn, samples []netip.Addr) ([]uint32, error) {
	family := unix.AF_INET
	if samples[0].Is6() {
		family = unix.AF_INET6
	}
	list := []uint32{0}
	rules, err := c.Rules(family)
	for _, r := range rules {
		if !slices.Contains(list, r.Mark()) {
			list = append(list, r.Mark())
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel without policy rules, or without the family
		err = nil
	}
	return list, err
}
