package host

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// addWays adds the ways of the host's packets to the Internet, IPv4 before IPv6. Behind the
// kernel's answers come the IPv4 default routes of the table main, in the kernel's order: a
// VPN's routes may go before them.
func addWays(f *Facts) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	for _, samples := range [][]netip.Addr{ways.Samples4, ways.Samples6} {
		found, err := ways.Ask(c, samples)
		if err != nil {
			return err
		}
		f.Ways = append(f.Ways, found...)
		for _, r := range f.Outward {
			if samples[0].Is4() && r.Dst.Bits() == 0 && r.Table == fib.MainTable && r.Link != 0 {
				f.Ways = append(f.Ways, ways.Way{Link: r.Link})
			}
		}
	}
	return nil
}
