package keeper_test

import (
	"time"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// The tests of this package drive the whole: Join, the keeper's process and the
// tasks of its upkeep. These are the names they use most.
type (
	Options      = keeper.Options
	Network      = keeper.Network
	Registration = keeper.Registration
	PortRequest  = keeper.PortRequest
	Stewards     = keeper.Stewards
	Port         = keeper.Port
	Info         = keeper.Info
	Note         = keeper.Note
)

var (
	Join    = keeper.Join
	List    = keeper.List
	Collect = keeper.Collect
)

// journalOf is the file of the network's journal.
func journalOf(o Options, network string) string {
	return rundir.Network{RunDir: o.RunDir, Name: network}.Journal()
}

// Times of packages server and upkeep, as the user meets them.
const (
	settleInterval = 100 * time.Millisecond
	lostTimeout    = 3 * time.Second
	stepRounds     = 5
	rejoinTimeout  = 3 * time.Second
	yieldTimeout   = 5 * time.Second
	awayTimeout    = time.Second
	lanInterval    = 5 * time.Second
	gatewayTimeout = 5 * time.Second
	offerTimeout   = 5 * time.Second
	askLimit       = 3
	arpTimeout     = time.Second
	dhcpTimeout    = 5 * time.Second
)
