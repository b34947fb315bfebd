package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// checkNotes reports what a run would tell its user about each network and no check before
// has said.
func checkNotes(_ context.Context, h *Host) []Finding {
	var list []Finding
	for _, p := range h.plans {
		if p.err != nil {
			continue
		}
		for _, note := range p.plan.Notes {
			if h.told(note) {
				continue
			}
			i := slices.IndexFunc(list, func(f Finding) bool { return f.Evidence == note })
			if i < 0 {
				i = len(list)
				list = append(list, Finding{Status: Warn, Evidence: note})
			}
			if mode := p.network.Mode; !slices.Contains(list[i].Modes, mode) {
				list[i].Modes = append(list[i].Modes, mode)
			}
		}
	}
	if list == nil {
		return []Finding{{Status: Pass, Modes: []profiles.Mode{}, Evidence: "a run has nothing else to tell"}}
	}
	return list
}

// told reports whether a finding that is no pass says what a note says. A note may have
// words around the evidence: the network's name before it, the remedy behind it.
func (h *Host) told(note string) bool {
	return slices.ContainsFunc(h.findings, func(f Finding) bool {
		return f.Status != Pass && (strings.Contains(note, f.Evidence) || strings.Contains(f.Evidence, note) || strings.Contains(f.Remedy, note))
	})
}
