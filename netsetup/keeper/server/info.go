package server

import (
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// info describes the network with all its VMs and leases.
func (s *server) info(ctx context.Context) keeper.Info {
	s.changes.lock(ctx) //nolint:errcheck // ctx has no end
	defer s.changes.unlock()
	info := s.brief()
	if s.dhcp != nil {
		info.Leases = s.dhcp.Leases()
	}
	for _, m := range s.Members() {
		info.VMs = append(info.VMs, keeper.VMInfo{Name: m.VM, Ports: m.Ports})
	}
	slices.SortFunc(info.VMs, func(a, b keeper.VMInfo) int { return cmp.Compare(a.Name, b.Name) })
	return info
}

// brief is what a VM that joins gets to know: no more the more VMs there are.
// server.changes is held.
func (s *server) brief() keeper.Info {
	p := s.journal.Plan
	s.mu.Lock()
	notes := plan.Sentences(s.notes)
	s.mu.Unlock()
	return keeper.Info{
		Name: p.Network.Name, Mode: p.Network.Mode, Macvtap: p.Network.Macvtap, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		MTU: p.MTU, Uplinks: p.Uplinks, STP: p.STP, KeeperPID: os.Getpid(), VMs: []keeper.VMInfo{},
		Notes: slices.Concat(notes, p.Notes),
	}
}
