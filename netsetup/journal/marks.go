package journal

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// strayPins are policy rules of ours for the network with the mark, or for none
// that is there. Host routes go with the bridge.
func strayPins(ctx context.Context, k step.Kernel, f host.Facts, mark string) (step.List, error) {
	fib, err := k.FIB(ctx)
	var rules step.List
	for _, r := range fib.Rules {
		other := slices.ContainsFunc(f.Links, func(l host.Link) bool {
			return l.Ours() && l.Alias != mark && slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == r.To })
		})
		if r.Protocol == host.PinProtocol && !other {
			rules = append(rules, step.PinRule{Prefix: r.To, Priority: r.Priority})
		}
	}
	return rules, err
}

// UndoByMarks removes what bears a network's marks, for want of a journal that can
// be read: its links and tables. A NIC that is a port of its bridge gets what the
// bridge has. What else it changed of the host's own, the forwarding of uplinks and
// a bridged NIC that was down, cannot be known.
func UndoByMarks(ctx context.Context, k step.Kernel, f host.Facts, network string) error {
	mark, table := host.NetworkMark(network), host.TableName(network)
	steps := slices.Clone(plan.LeaveAloneSteps(managers.Programs))
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, bridgeByMark(ctx, k, f, l)...)
		}
	}
	for _, family := range []nft.Family{nft.INet, nft.NetDev} {
		steps = append(steps, step.AddTable{Table: nft.Table{Family: family, Name: table, Comment: mark}})
	}
	for _, l := range f.Links {
		if zone := f.Firewalld.Zones[l.Name]; l.Alias == mark && zone != "" {
			z := firewalld.Zone{Name: zone, Link: l.Name}
			if a, ok := l.GlobalAddress(); ok {
				z.Rules = plan.ZoneRules(a.Masked())
			}
			steps = append(steps, step.SetZone{Zone: z})
		}
		if strings.HasPrefix(l.Alias, mark+"/") {
			steps = append(steps, step.AddTap{Name: l.Name, Alias: l.Alias})
			for _, family := range []nft.Family{nft.Bridge, nft.INet} {
				steps = append(steps, step.AddTable{Table: nft.Table{Family: family, Name: plan.TraceTableName(l.Name), Comment: l.Alias}})
			}
		}
	}
	pins, err := strayPins(ctx, k, f, mark)
	return errors.Join(err, apply.Undo(ctx, k, append(steps, pins...)), step.SweepAccepts(ctx, k, network))
}

// bridgeByMark are the steps that a bridge of ours and its ports tell of.
func bridgeByMark(ctx context.Context, k step.Kernel, f host.Facts, bridge host.Link) step.List {
	add := step.AddBridge{Name: bridge.Name, Alias: bridge.Alias}
	var moves step.List
	for _, l := range f.Links {
		if l.Master != bridge.Index || l.Ours() || !l.Ethernet {
			continue
		}
		add.Carries = l.Name
		move := step.MoveToBridge{Link: l.Name, Bridge: bridge.Name, Alias: bridge.Alias}
		off := step.SetSysctl{Key: host.DisableIPv6Key(l.Name), Value: "1", Old: "0"}
		if v, err := k.Sysctl(ctx, host.DisableIPv6Key(bridge.Name)); err == nil && v == "0" { // as the NIC's was
			move.GenMode, _ = k.Sysctl(ctx, host.GenModeKey(bridge.Name))
			moves = append(moves, move, off)
			continue
		}
		moves = append(moves, move)
	}
	return append(step.List{add}, moves...)
}
