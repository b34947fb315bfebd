package supervisor

import (
	"os"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// QueryOf returns what to ask the host for a network's plan, so that it is the plan of a run
// with that run directory: what qnet plan and qnet doctor say is what the keeper will decide.
// Only root can ask the LAN's gateways.
func QueryOf(n plan.Network, runDir string) host.Query {
	q := n.Query()
	q.Original = journal.OriginalSysctls(rundir.Network{RunDir: runDir, Name: n.Name})
	q.Ask, q.Peer = q.LAN && os.Geteuid() == 0, RemotePeer()
	return q
}
