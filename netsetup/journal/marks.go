package journal

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// UndoByMarks removes what bears a network's marks, where there is no journal that can be
// read: its links, tables, accepts and pins. A NIC that is a port of its bridge gets what the
// bridge has. No mark tells what else the network changed of the host's own: the forwarding of
// uplinks, and a NIC that it set up.
func UndoByMarks(ctx context.Context, k step.Kernel, f host.Facts, network string) error {
	mark := host.NetworkMark(network)
	steps := slices.Clone(plan.LeaveAloneSteps(managers.Programs))
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, bridgeByMark(ctx, k, f, l)...)
		}
	}
	tables, unlisted := k.MarkedTables(ctx, mark) // of ports that are gone, too
	for _, t := range tables {
		steps = append(steps, step.AddTable{Table: t})
	}
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, zoneOf(f, l)...)
		}
		if strings.HasPrefix(l.Alias, mark+"/") {
			steps = append(steps, step.AddTap{Name: l.Name, Alias: l.Alias})
		}
	}
	pins, err := strayPins(ctx, k, f, mark)
	return errors.Join(err, unlisted, apply.Undo(ctx, k, append(steps, pins...)), step.SweepAccepts(ctx, k, network))
}

// bridgeByMark returns the steps that a bridge of ours and its ports show.
func bridgeByMark(ctx context.Context, k step.Kernel, f host.Facts, bridge host.Link) step.List {
	add := step.AddBridge{Name: bridge.Name, Alias: bridge.Alias}
	var moves step.List
	for _, l := range f.Links {
		if l.Master != bridge.Index || l.Ours() || !l.Ethernet {
			continue
		}
		add.Carries = l.Name
		move := step.MoveToBridge{Link: l.Name, Bridge: bridge.Name, Alias: bridge.Alias}
		if v, err := k.Sysctl(ctx, host.DisableIPv6Key(bridge.Name)); err != nil || v != "0" {
			moves = append(moves, move)
			continue
		}
		// The bridge has IPv6, so the NIC had it, too.
		move.GenMode, _ = k.Sysctl(ctx, host.GenModeKey(bridge.Name))
		moves = append(moves, move, step.SetSysctl{Key: host.DisableIPv6Key(l.Name), Value: "1", Old: "0"})
	}
	return append(step.List{add}, moves...)
}

// zoneOf returns the step that put a bridge of ours into the zone of firewalld that it is in.
func zoneOf(f host.Facts, bridge host.Link) step.List {
	zone := firewalld.Zone{Name: f.Firewalld.Zones[bridge.Name], Link: bridge.Name}
	if zone.Name == "" {
		return nil
	}
	var guests [2]netip.Prefix // of IPv4 and of IPv6
	for _, a := range bridge.Addresses {
		if !a.Addr().IsLinkLocalUnicast() {
			guests[(a.Addr().BitLen()-32)/96] = a.Masked()
		}
	}
	if guests[0].IsValid() {
		zone.Rules = append(firewalld.ZoneRules(guests[0], guests[1]), firewalld.FormerZoneRules(guests[0])...)
	}
	return step.List{step.SetZone{Zone: zone}}
}

// strayPins returns the policy rules of pins that belong to the network, or to no network that
// has a bridge. The host routes of pins go with the bridge.
func strayPins(ctx context.Context, k step.Kernel, f host.Facts, mark string) (step.List, error) {
	all, err := k.FIB(ctx, netip.Prefix{}) // the rules alone
	var rules step.List
	for _, r := range all.Rules {
		if r.In != "" {
			continue
		}
		another := slices.ContainsFunc(f.Links, func(l host.Link) bool {
			return l.Ours() && l.Alias != mark && slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == r.To })
		})
		if r.Protocol == fib.PinProtocol && !another {
			rules = append(rules, step.PinRule{Prefix: r.To, Priority: r.Priority})
		}
	}
	return append(rules, strayExits(f, all, mark)...), err
}

// strayExits returns the ways out of guests (step.LeaveBy) that belong to the network, or to
// no network that has a bridge. A route without the rules that lead to it belongs to none.
func strayExits(f host.Facts, all fib.FIB, mark string) step.List {
	var exits step.List
	used := map[int]bool{fib.MainTable: true}
	for _, r := range all.Rules {
		if r.In == "" || r.Protocol != fib.PinProtocol || r.Table == fib.MainTable {
			continue
		}
		used[r.Table] = true
		if l, ok := f.Link(r.In); !ok || !l.Ours() || l.Alias == mark {
			exits = append(exits, step.LeaveBy{Bridge: r.In, Table: r.Table, Priority: r.Priority - 1})
		}
	}
	for _, r := range all.Routes {
		if r.Protocol == fib.PinProtocol && !used[r.Table] {
			exits = append(exits, step.LeaveBy{Table: r.Table})
		}
	}
	return exits
}
