package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// SetLifetime gives an address of a link so many seconds from now on, and keeps all
// else of it, its metric among others, which the netlink package does not know. The
// keeper may. An address that is gone is an error.
//
//	ip addr change PREFIX dev LINK valid_lft VALID preferred_lft PREFERRED
func SetLifetime(l host.Link, p netip.Prefix, valid, preferred uint32) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // everything is answered by then
	words := fmt.Sprintf("give %s of %q more time", p, l.Name)
	list, err := c.Addrs(l.Index)
	if err != nil {
		return fmt.Errorf("%s: %w", words, err)
	}
	i := slices.IndexFunc(list, func(r rtnl.Raw) bool { return (rtnl.Address{Raw: r}).Prefix() == p })
	if i < 0 {
		return fmt.Errorf("%s: it is gone", words)
	}
	return host.Explain(c.Send([]rtnl.Request{{
		Type: unix.RTM_NEWADDR, Flags: netlink.Replace, Words: words,
		Data: (rtnl.Address{Raw: list[i]}).Lasting(rtnl.Lifetimes{Preferred: preferred, Valid: valid}).Raw,
	}}))
}
