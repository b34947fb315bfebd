package ways

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Ask asks the kernel for the ways of the host's packets to samples of one family: that of
// packets without a mark, and then those of packets with a mark that a policy rule knows, as
// packets have that carry a VPN.
func Ask(c *rtnl.Conn, samples []netip.Addr) ([]Way, error) {
	marks, err := marksOf(c, samples)
	var found []Way
	for _, mark := range marks {
		if w, ok := ask(c, samples, mark); ok {
			found = append(found, w)
		}
	}
	return found, err
}

// ask asks the kernel for the way of packets with a mark.
func ask(c *rtnl.Conn, samples []netip.Addr, mark uint32) (Way, bool) {
	var found []Way
	for _, to := range samples {
		// Each error says that there is no such route, or no such family.
		if r, err := c.RouteOf(rtnl.Question{To: to, Mark: mark}); err == nil && r.Type() == unix.RTN_UNICAST {
			link, via := r.Out()
			found = append(found, Way{Link: link, Via: via, IPv6: to.Is6()})
		}
	}
	return Most(found, len(samples))
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
