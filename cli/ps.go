package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
)

func (a *app) ps(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	states, err := a.list(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.json(states)
	}
	return a.table("NAME STATE MODE NETWORK ADDRESS MAC TAP UPTIME", func(w io.Writer) {
		for _, s := range states {
			name, state, uptime := s.Name, s.State, time.Since(s.Started).Truncate(time.Second).String()
			for _, n := range s.NICs {
				address := n.Address
				if list := n.Addresses(); len(list) > 0 {
					address = list[0]
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, state, n.Mode, orDash(n.Network), addressOrDash(address), n.MAC, orDash(n.Tap), uptime)
				name, state, uptime = "", "", "" // the VM's further NICs
			}
			if len(s.NICs) == 0 {
				fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t-\t%s\n", name, state, uptime)
			}
		}
	})
}
