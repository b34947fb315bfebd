package plan

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// LetPass decides what is done about what others drop of the plan's packets: steps
// that let them pass, and notes for the user. It is pure, and the plan's own
// accepts among the filters change nothing about it. zoned tells that firewalld
// runs, which is told of the bridge another way.
func (p *Plan) LetPass(filters filters.Ruleset, zoned bool) (accepts step.List, notes []string) {
	if p.Network.Macvtap { // whose frames no filter of the host's sees
		return nil, nil
	}
	n := p.filtered()
	n.Zoned = zoned && !n.Joined
	for _, a := range filters.Answers(n) {
		for _, rule := range a.Accepts {
			accepts = append(accepts, step.AddAccept{Rule: rule})
		}
		if a.Note != "" {
			notes = append(notes, a.Note)
		}
	}
	for _, why := range filters.Unread {
		notes = append(notes, fmt.Sprintf("network %s: whether other programs drop its packets is not known: %s", p.Network.Name, why))
	}
	return accepts, notes
}

// filtered is what of the plan others' filters see.
func (p *Plan) filtered() filters.Network {
	return filters.Network{
		Name: p.Network.Name, Mode: p.Network.Mode, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		Uplinks: p.Uplinks, Joined: p.Bridge != host.BridgeName(p.Network.Name),
	}
}
