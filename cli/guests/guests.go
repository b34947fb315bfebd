// Package guests has the commands for running guests: their consoles, addresses and logins.
// Each command has a file of its own.
package guests

import (
	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
)

// guests is one invocation of one of the commands.
type guests struct{ *call.Call }

// Commands returns the commands in the order of the help text. They may be run once c has
// its user and places.
func Commands(c *call.Call) []*cli.Command {
	g := guests{c}
	return []*cli.Command{g.consoleCommand(), g.logsCommand(), g.ipCommand(), g.waitCommand(), g.sshCommand(), g.execCommand(), g.copyCommand(), g.forwardCommand(), g.hostsCommand()}
}
