package server

import (
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/nft/counters"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// info describes the network with all its VMs and leases. The error is that of ctx.
func (s *server) info(ctx context.Context) (keeper.Info, error) {
	if err := s.changes.lock(ctx); err != nil {
		return keeper.Info{}, err
	}
	defer s.changes.unlock()
	info := s.brief()
	info.Dropped = s.counted(nft.INet, host.TableName(info.Name), plan.MetadataChain)
	if s.dhcp != nil {
		info.Leases = s.dhcp.Confirm(s.clerk.Leases())
	}
	for _, m := range s.Members() {
		for i := range m.Ports { // of a copy
			m.Ports[i].Dropped, m.Ports[i].Refused = s.dropped(m.Ports[i]), s.refused(m.Ports[i])
			addAddress6(info.Leases, m.Ports[i])
			m.Ports[i].Forwards = s.carried(m.Ports[i], m.Steps)
		}
		info.VMs = append(info.VMs, keeper.VMInfo{Name: m.VM, Ports: m.Ports})
	}
	order.By(info.VMs, func(a, b keeper.VMInfo) int { return cmp.Compare(a.Name, b.Name) })
	return info, nil
}

// dropped is what the guard of a port has dropped.
func (s *server) dropped(p keeper.Port) []nft.Count {
	if p.Unguarded {
		return nil
	}
	return s.counted(nft.NetDev, guard.TableName(p.Tap), guard.Chain)
}

// refused is what the policy of a port has refused.
func (s *server) refused(p keeper.Port) []nft.Count {
	var list []nft.Count
	for _, c := range egress.Counting(p.Reach) {
		list = append(list, s.counted(c.Family, egress.TableName(p.Tap), c.Chain)...)
	}
	return append(list, s.refusedNames(p)...)
}

// carried are the forwards to a port, with how many connections went by DNAT.
func (s *server) carried(p keeper.Port, steps step.List) []keeper.Forwarded {
	added, ok := step.Find[forward.AddForwards](steps)
	if !ok {
		return p.Forwards
	}
	counts, err := nft.CountForwards(added.Forwarding)
	if err != nil {
		s.log.Warn("count connections", "table", added.Forwarding.Table, "error", err)
	}
	list := slices.Clone(p.Forwards)
	for i := range list {
		list[i].Connections = counts[forward.Destination(p.Address, list[i].Forward)]
	}
	return list
}

// counted is what a chain of qnet's has dropped.
func (s *server) counted(family nft.Family, table, chain string) []nft.Count {
	counts, err := counters.Read(family, table, chain)
	if err != nil {
		s.log.Warn("read what was dropped", "table", table, "error", err)
	}
	return counts
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
		Prefix6: p.Prefix6, Gateway6: p.Gateway6, MTU: p.MTU, Uplinks: p.Uplinks, STP: p.STP, KeeperPID: os.Getpid(), VMs: []keeper.VMInfo{}, Clerk: s.spec.Clerk,
		Notes: slices.Concat(notes, p.Notes),
	}
}
