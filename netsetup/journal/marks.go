package netsetup

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// strayPins are policy rules of ours for the network with the mark, or for none
// that is there. Host routes go with the bridge.
func strayPins(k Kernel, f Facts, mark string) (StepList, error) {
	fib, err := k.FIB()
	var rules StepList
	for _, r := range fib.Rules {
		other := slices.ContainsFunc(f.Links, func(l Link) bool {
			return l.ours() && l.Alias != mark && slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == r.To })
		})
		if r.Protocol == pinProtocol && !other {
			rules = append(rules, PinRule{Prefix: r.To, Priority: r.Priority})
		}
	}
	return rules, err
}

// UndoByMarks removes what bears a network's marks, for want of a journal that can
// be read: its links and tables. A NIC that is a port of its bridge gets what the
// bridge has. What else it changed of the host's own, the forwarding of uplinks and
// a bridged NIC that was down, cannot be known.
func UndoByMarks(k Kernel, f Facts, network string) error {
	mark, table := networkMark(network), TableName(network)
	steps := slices.Clone(leaveAlone(managers.Programs))
	for _, l := range f.Links {
		if l.Alias == mark {
			steps = append(steps, bridgeByMark(k, f, l)...)
		}
	}
	for _, family := range []nft.Family{nft.INet, nft.NetDev} {
		steps = append(steps, AddTable{Table: nft.Table{Family: family, Name: table, Comment: mark}})
	}
	for _, l := range f.Links {
		if zone := f.Firewalld.Zones[l.Name]; l.Alias == mark && zone != "" {
			z := firewalld.Zone{Name: zone, Link: l.Name}
			if a, ok := l.globalAddress(); ok {
				z.Rules = guestRules(a.Masked())
			}
			steps = append(steps, SetZone{z})
		}
		if strings.HasPrefix(l.Alias, mark+"/") {
			steps = append(steps, AddTap{Name: l.Name, Alias: l.Alias})
			for _, family := range []nft.Family{nft.Bridge, nft.INet} {
				steps = append(steps, AddTable{Table: nft.Table{Family: family, Name: traceTable(l.Name), Comment: l.Alias}})
			}
		}
	}
	pins, err := strayPins(k, f, mark)
	return errors.Join(err, Undo(k, append(steps, pins...)), SweepAccepts(k, network))
}

// bridgeByMark are the steps that a bridge of ours and its ports tell of.
func bridgeByMark(k Kernel, f Facts, bridge Link) StepList {
	add := AddBridge{Name: bridge.Name, Alias: bridge.Alias}
	var moves StepList
	for _, l := range f.Links {
		if l.Master != bridge.Index || l.ours() || !l.Ethernet {
			continue
		}
		add.Carries = l.Name
		move := MoveToBridge{Link: l.Name, Bridge: bridge.Name, Alias: bridge.Alias}
		off := SetSysctl{Key: disableIPv6Key(l.Name), Value: "1", Old: "0"}
		if v, err := k.Sysctl(disableIPv6Key(bridge.Name)); err == nil && v == "0" { // as the NIC's was
			move.GenMode, _ = k.Sysctl(genModeKey(bridge.Name))
			moves = append(moves, move, off)
			continue
		}
		moves = append(moves, move)
	}
	return append(StepList{add}, moves...)
}
