package plan

import (
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// handOver says what becomes of the program that configures the NIC when that
// becomes a port, on which it would hear nothing any more and which it would take
// back (F20): steps to do before the move and after it, or a refusal. networkd
// takes away what it configured when it lets go, so by then the bridge must have it;
// NetworkManager leaves it. A DHCP client that is nothing else stays as it is.
func handOver(n Network, c managers.Client) (before, after step.List, err error) {
	if c.Refusal != "" {
		return nil, nil, host.Refuse("plan network %q: uplink %q %s", n.Name, c.Link, c.Refusal)
	}
	switch c.Program {
	case managers.NetworkManager:
		before = step.List{step.Unmanage{Link: c.Link}}
	case managers.Networkd:
		f := managers.LetGo(c.Link)
		before = step.List{step.ConfigFile{Program: c.Program, Path: f.Path, Text: f.Text, NIC: true}}
		after = step.List{step.Reload{Program: c.Program}}
	}
	return before, after, nil
}
