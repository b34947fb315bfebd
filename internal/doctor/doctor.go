// Package doctor finds what on this host breaks which mode, and says what to do about
// it. Its checks are data: a name, the modes that depend on it, and a function that
// looks. They change nothing on the host. What has to be tried (a tap, a bridge, a
// table, a machine under KVM) is made in a network namespace of its own, or without a
// network.
//
// A check that needs rights that the caller lacks reports Unseen, never Pass.
package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// Status is the result of a check.
type Status string

// The statuses, the worst last. Unseen is the status of what could not be checked.
const (
	Pass   Status = "pass"
	Unseen Status = "unseen"
	Warn   Status = "warn"
	Fail   Status = "fail"
)

var order = []Status{Pass, Unseen, Warn, Fail}

// worse is the worse of two statuses.
func worse(a, b Status) Status {
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// Finding is what a check found. Most checks have one, others have one for each network
// or filter.
type Finding struct {
	Check    string          `json:"check"`
	Status   Status          `json:"status"`
	Modes    []profiles.Mode `json:"modes,omitempty"` // the modes it affects
	Evidence string          `json:"evidence"`
	Remedy   string          `json:"remedy,omitempty"` // a command, or what to change
}

// Check is one thing to look at. A finding without Modes gets those of the check.
type Check struct {
	Name  string
	Modes []profiles.Mode
	Run   func(context.Context, *Host) []Finding
}

// Options say what to look at.
type Options struct {
	RunDir, StateDir string
	QEMU             string // the binary; "" finds it in Path
	Path             string // the PATH
	User             *asuser.User
	Files            hardware.Options  // whose the profile's files are
	Networks         []plan.Network    // of a profile; nil is one of each mode
	Profile          *profiles.Profile // nil without one
}

// Report is what all checks found.
type Report struct {
	Findings []Finding `json:"checks"`
	// Modes has the worst status of each mode of the networks.
	Modes map[profiles.Mode]Status `json:"modes"`
}

// CannotWork reports whether the mode of a network cannot work.
func (r Report) CannotWork() bool {
	for _, s := range r.Modes {
		if s == Fail {
			return true
		}
	}
	return false
}

var (
	all    = []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge}
	served = []profiles.Mode{profiles.HostOnly, profiles.NAT}
	routed = []profiles.Mode{profiles.NAT}
)

// Checks are all checks, in the order of the table in docs/doctor.md.
var Checks = slices.Concat(machineChecks, kernelChecks, networkChecks, fileChecks, []Check{{Name: "notes", Run: checkNotes}})

// Run observes the host and does the checks.
func Run(ctx context.Context, o Options) (Report, error) {
	h, err := newHost(ctx, o)
	if err != nil {
		return Report{}, fmt.Errorf("look at the host: %w", err)
	}
	r := Report{Modes: map[profiles.Mode]Status{}}
	for _, n := range h.networks {
		r.Modes[n.Mode] = Pass
	}
	for _, c := range Checks {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		for _, f := range c.Run(ctx, h) {
			f.Check = c.Name
			if f.Modes == nil {
				f.Modes = c.Modes
			}
			r.add(f)
			h.findings = append(h.findings, f)
		}
	}
	return r, nil
}

func (r *Report) add(f Finding) {
	// Modes of no network do not count.
	f.Modes = slices.DeleteFunc(slices.Clone(f.Modes), func(m profiles.Mode) bool { return r.Modes[m] == "" })
	r.Findings = append(r.Findings, f)
	for _, m := range f.Modes {
		r.Modes[m] = worse(r.Modes[m], f.Status)
	}
}

// one is the result of a check with one finding.
func one(s Status, remedy, format string, args ...any) []Finding {
	return []Finding{{Status: s, Evidence: fmt.Sprintf(format, args...), Remedy: remedy}}
}
