package netsetup

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// SetLifetime gives an address of a link so many seconds from now on, and keeps all
// else of it, its metric among others, which the netlink package does not know. The
// keeper may. An address that is gone is an error.
//
//	ip addr change PREFIX dev LINK valid_lft VALID preferred_lft PREFERRED
func SetLifetime(l Link, p netip.Prefix, valid, preferred uint32) error {
	c, err := dialRTNL()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // everything is answered by then
	words := fmt.Sprintf("give %s of %q more time", p, l.Name)
	list, err := c.addrs(l.Index)
	if err != nil {
		return fmt.Errorf("%s: %w", words, err)
	}
	i := slices.IndexFunc(list, func(r Raw) bool { return (address{r}).prefix() == p })
	if i < 0 {
		return fmt.Errorf("%s: it is gone", words)
	}
	return explain(c.send([]request{{
		what: unix.RTM_NEWADDR, flags: netlink.Replace, words: words,
		data: (address{list[i]}).lasting(lifetimes{preferred, valid}).Raw,
	}}))
}
