package netsetup

import (
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// AddAccept puts an accept for the network into a chain of iptables, where another
// program drops its packets (F01, F02, F03). Our own tables' accepts do not help
// against that (F07).
type AddAccept struct {
	Rule filters.AcceptRule `json:"rule"`
}

// Do inserts the rule, unless it is there.
func (s AddAccept) Do(k Kernel) error {
	there, err := s.Holds(k)
	if err != nil || there {
		return err
	}
	return k.InsertAccept(s.Rule)
}

// Undo deletes the rule, and what copies of it others made: a firewall that was
// saved and restored meanwhile holds it twice. It is gone already where its chain
// was flushed.
func (s AddAccept) Undo(k Kernel) error {
	filters, err := k.Filters()
	if err != nil {
		return err
	}
	for range filters.Count(s.Rule) {
		if err := k.DeleteAccept(s.Rule); err != nil {
			return err
		}
	}
	return nil
}

// Holds reports whether the rule is there.
func (s AddAccept) Holds(k Kernel) (bool, error) {
	filters, err := k.Filters()
	return filters.Count(s.Rule) > 0, err
}

func (s AddAccept) String() string { return s.Rule.Command("-I") }

// UndoString is the command Undo equals.
func (s AddAccept) UndoString() string { return s.Rule.Command("-D") }

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
func (p *Plan) LetPass(rules filters.Ruleset, zoned bool) (accepts StepList, notes []string) {
	if p.Network.Macvtap {
		return nil, nil
	}
	for _, a := range p.Answers(rules, zoned) {
		for _, rule := range a.Accepts {
			accepts = append(accepts, AddAccept{Rule: rule})
		}
		if text := a.String(); text != "" {
			notes = append(notes, fmt.Sprintf("network %s: %s", p.Network.Name, text))
		}
	}
	for _, why := range rules.Unread {
		notes = append(notes, fmt.Sprintf("network %s: whether other programs drop its packets is not known: %s", p.Network.Name, why))
	}
	return accepts, notes
}

// filtered is what of the plan others' filters see.
func (p *Plan) filtered() filters.Promise {
	return filters.Promise{
		Name: p.Network.Name, Mode: p.Network.Mode, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		Uplinks: p.Uplinks, Joined: p.Bridge != BridgeName(p.Network.Name),
	}
}

// SplitAccepts parts the steps that make a network from those in others' hands,
// without which it stands, if with fewer promises.
func SplitAccepts(steps StepList) (own, accepts StepList) {
	for _, s := range steps {
		switch s.(type) {
		case AddAccept, SetZone:
			accepts = append(accepts, s)
		default:
			own = append(own, s)
		}
	}
	return own, accepts
}

// SweepAccepts removes every accept that bears the network's mark: what a dead
// keeper's journal does not tell of, or a firewall brought back that was saved
// while the network ran.
func SweepAccepts(k Kernel, network string) error {
	filters, err := k.Filters()
	if err != nil {
		return err
	}
	var errs []error
	for _, rule := range filters.Marked(network) {
		if err := k.DeleteAccept(rule); err != nil {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}
