package plan

import (
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Answers decides what qnet does about those of the network's packets that other programs
// drop. It ignores the network's own accepts in the rules. zoned tells that firewalld runs:
// another step puts the bridge into a zone.
func (p *Plan) Answers(rules filters.Ruleset, zoned bool) []filters.Answer {
	if p.Network.Macvtap { // no filter of the host sees the frames
		return nil
	}
	promise := p.promise()
	promise.Zoned = zoned && !promise.Joined
	return rules.Answers(promise)
}

// AcceptSteps turns Answers into steps that let the packets pass, and notes for the user.
func (p *Plan) AcceptSteps(rules filters.Ruleset, zoned bool) (accepts step.List, notes []Note) {
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

// ClosedTo names the program that keeps guests from the host's own services, but for DNS and ping,
// and the command that opens a port to them (filters.Ruleset.ClosedTo).
func (p *Plan) ClosedTo(rules filters.Ruleset, zoned bool) (program, open string) {
	promise := p.promise()
	promise.Zoned = zoned && !promise.Joined
	return rules.ClosedTo(promise)
}

// promise is what package filters must know of the network.
func (p *Plan) promise() filters.Promise {
	return filters.Promise{
		Name: p.Network.Name, Mode: p.Network.Mode, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		Prefix6: p.Prefix6, Gateway6: p.Gateway6,
		Uplinks: p.Uplinks, Joined: p.Bridge != host.BridgeName(p.Network.Name), Forwards: p.Forwards,
	}
}
