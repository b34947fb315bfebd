package plan

import (
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Answers decides what happens about the packets of the plan that other programs
// drop. It is pure, and ignores the plan's own accepts in the rules. zoned tells that
// firewalld runs: a step of its own puts the bridge into a zone.
func (p *Plan) Answers(rules filters.Ruleset, zoned bool) []filters.Answer {
	if p.Network.Macvtap { // no filter of the host sees its frames
		return nil
	}
	n := p.filtered()
	n.Zoned = zoned && !n.Joined
	return rules.Answers(n)
}

// LetPass turns Answers into steps that let the packets pass, and notes for the user.
func (p *Plan) LetPass(rules filters.Ruleset, zoned bool) (accepts step.List, notes []Note) {
	if p.Network.Macvtap {
		return nil, nil
	}
	for _, a := range p.Answers(rules, zoned) {
		for _, rule := range a.Accepts {
			accepts = append(accepts, step.AddAccept{Rule: rule})
		}
		if a.Evidence != "" {
			notes = append(notes, p.note(a.Evidence, a.Remedy.Sentence()))
		}
	}
	for _, why := range rules.Unread {
		notes = append(notes, p.note("whether other programs drop its packets is not known: "+why, ""))
	}
	return accepts, notes
}

// note says something about the network.
func (p *Plan) note(text, remedy string) Note {
	return Note{Subject: "network " + p.Network.Name, Text: "network " + p.Network.Name + ": " + text, Remedy: remedy}
}

// filtered is what of the plan others' filters see.
func (p *Plan) filtered() filters.Promise {
	return filters.Promise{
		Name: p.Network.Name, Mode: p.Network.Mode, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		Uplinks: p.Uplinks, Joined: p.Bridge != host.BridgeName(p.Network.Name),
	}
}
