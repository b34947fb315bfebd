package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/netsetup/dns"
)

func (a *app) hosts(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	states, err := a.list(c.Context)
	if err != nil {
		return err
	}
	for _, s := range states {
		for _, n := range s.NICs {
			address := n.Address
			if list := n.Addresses(); !address.IsValid() && len(list) > 0 && !list[0].IsLinkLocalUnicast() {
				address = list[0]
			}
			if address.IsValid() {
				fmt.Fprintf(a.Stdout, "%s\t%s.%s %s\n", address, s.Name, dns.Domain, s.Name)
				break
			}
		}
	}
	return nil
}
