package plan

import (
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// LeaveAloneSteps tell the programs, which run on this host, to leave qnet's links alone.
// They come first in a plan: a program that sees a link before may take it.
func LeaveAloneSteps(programs []managers.Program) step.List {
	var steps step.List
	for _, p := range programs {
		if f, ok := managers.LeaveAlone(p); ok {
			steps = append(steps, step.ConfigFile{Program: p, Path: f.Path, Text: f.Text})
		}
	}
	return steps
}

// managerNotes are what the user can do about programs that read no such file.
func managerNotes(programs []managers.Program) []string {
	var notes []string
	for _, p := range programs {
		if advice := managers.Advice(p); advice != "" {
			notes = append(notes, advice)
		}
	}
	return notes
}

// handOver takes the NIC from the program that configures it: on a port that program
// would hear nothing any more, and take the NIC back (F20). It returns the steps before and
// after the NIC becomes a port, or a refusal. networkd removes what it configured when it
// lets go, so by then the bridge must have it; NetworkManager keeps it. A program that is a
// DHCP client and nothing else keeps the NIC.
func handOver(n Network, c managers.Client) (before, after step.List, err error) {
	if c.Refusal != "" {
		return nil, nil, n.refuse("uplink %q %s", c.Link, c.Refusal)
	}
	switch c.Program {
	case managers.NetworkManager:
		before = step.List{step.Unmanage{Link: c.Link}}
	case managers.Networkd:
		f := managers.LetGo(c.Link)
		before = step.List{step.ConfigFile{Program: c.Program, Path: f.Path, Text: f.Text, NIC: true}}
		after = step.List{step.Reload{Program: c.Program}}
	}
	return before, after, nil
}
