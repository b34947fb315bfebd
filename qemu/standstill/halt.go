package standstill

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Halt is why a guest does not run, or runs no more for good. The zero value is a guest
// that runs.
type Halt struct {
	Kind Kind
	// Why is a few words for the user, such as "no space"; "" where the kind says it all.
	Why   string
	Disks []string // files of the disks that it is about, as the config names them
}

// Kind is the kind of a Halt.
type Kind string

// The kinds of a Halt. A guest that is Panicked does not run again before it is reset; its
// CPUs may go on.
const (
	Runs      Kind = ""
	Paused    Kind = "paused"
	Suspended Kind = "suspended" // by itself, to memory (ACPI S3)
	Panicked  Kind = "panicked"
)

// Short returns the reason for a table, with the names of the disks' files:
// "no space: web.qcow2". It is "" where the kind says it all.
func (h Halt) Short() string {
	names := make([]string, len(h.Disks))
	for i, d := range h.Disks {
		names[i] = filepath.Base(d)
	}
	if len(names) == 0 {
		return h.Why
	}
	return h.Why + ": " + strings.Join(names, ", ")
}

// heals reports whether the guest can go on by itself when what stopped it is over.
func (h Halt) heals() bool { return h.Kind == Paused && len(h.Disks) > 0 }

// hears reports whether a guest in this state can be made to hear its power button.
func (h Halt) hears() bool {
	return h.Kind != Panicked && h.Why != whyInternal && h.Why != whyShutdown && h.Why != whyWatchdog
}

// What stops a guest, in words.
const (
	whyNoSpace  = "no space"
	whyQuota    = "quota"
	whyIO       = "I/O error"
	whyInternal = "internal error"
	whyShutdown = "shut down"
	whyWatchdog = "watchdog" // the guest hangs
)

// runStates are QEMU's run states in which a guest does not run (RunState in
// qapi/run-state.json), but for io-error, which needs a look at the disks. Another state
// that is not "running" passes by itself, such as that of a snapshot.
var runStates = map[string]Halt{
	"paused":         {Kind: Paused},
	"prelaunch":      {Kind: Paused}, // after a reset while it was paused
	"postmigrate":    {Kind: Paused},
	"debug":          {Kind: Paused, Why: "debugger"},
	"watchdog":       {Kind: Paused, Why: whyWatchdog},
	"internal-error": {Kind: Paused, Why: whyInternal},
	"shutdown":       {Kind: Paused, Why: whyShutdown},
	"suspended":      {Kind: Suspended},
	"guest-panicked": {Kind: Panicked},
}

// RunState asks QEMU for its run state, such as "running" or "io-error".
func RunState(ctx context.Context, m Monitor) (string, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := m.Execute(ctx, "query-status", nil, &status)
	return status.Status, err
}

// Halt asks QEMU whether and why the guest stands still.
func (g *Guest) Halt(ctx context.Context) (Halt, error) {
	if g.Ends() {
		return Halt{}, errEnds
	}
	state, err := RunState(ctx, g.monitor)
	if err != nil {
		return Halt{}, err
	}
	switch h, stands := runStates[state]; {
	case h.Kind == Paused && h.Why == "":
		return Halt{Kind: Paused, Why: g.heldFor()}, nil
	case stands:
		return h, nil
	case state == "io-error":
		return g.diskHalt(ctx)
	case g.panicked.Load():
		return Halt{Kind: Panicked}, nil
	}
	return Halt{}, nil
}

// diskHalt asks QEMU which disks stopped the guest (io-status in qapi/block-core.json). An
// exceeded quota (EDQUOT) is no lack of space to QEMU, but to the user: only the event
// tells.
func (g *Guest) diskHalt(ctx context.Context) (Halt, error) {
	var blocks []struct {
		QDev   string `json:"qdev"`
		Status string `json:"io-status"`
	}
	if err := g.monitor.Execute(ctx, "query-block", nil, &blocks); err != nil {
		return Halt{}, err
	}
	h := Halt{Kind: Paused, Why: whyIO}
	for _, b := range blocks {
		if b.Status != "nospace" && b.Status != "failed" {
			continue
		}
		i := diskIndex(b.QDev, "/machine/peripheral/disk")
		h.Disks = append(h.Disks, g.diskName(i, b.QDev))
		switch {
		case b.Status == "nospace":
			h.Why = whyNoSpace
		case h.Why == whyIO && g.quota(i):
			h.Why = whyQuota
		}
	}
	if len(h.Disks) == 0 {
		h.Disks = []string{"a disk"} // QEMU says io-error, and of a disk only
	}
	return h, nil
}

// diskIndex reads the number behind the prefix, such as that of a node "image3". It is -1
// for the name of something that qnet did not make.
func diskIndex(name, prefix string) int {
	number, ok := strings.CutPrefix(name, prefix)
	number, _, _ = strings.Cut(number, "/")
	i, err := strconv.Atoi(number)
	if !ok || err != nil || i < 0 {
		return -1
	}
	return i
}

// diskName is the file of the config's disk; other names what it is without one.
func (g *Guest) diskName(i int, other string) string {
	if i < 0 || i >= len(g.disks) {
		return other
	}
	return g.disks[i].File
}

// quota reports whether the last error of the disk was an exceeded quota.
func (g *Guest) quota(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return i >= 0 && i < len(g.disks) && isQuota(g.lastErrors[i])
}

// isQuota recognizes strerror(3) of EDQUOT, which QEMU passes on.
func isQuota(reason string) bool { return strings.EqualFold(reason, unix.EDQUOT.Error()) }

// noteError keeps the reason of a disk's error, for quota.
func (g *Guest) noteError(i int, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i >= 0 && i < len(g.disks) {
		g.lastErrors[i] = reason
	}
}

// full says where there is no room for disks that the guest writes to.
func (g *Guest) full(files []string) string {
	var places []string
	for _, file := range files {
		place := fmt.Sprintf("disk %q", file)
		for _, d := range g.disks {
			if d.File == file && d.Grows != "" {
				place = fmt.Sprintf("the temporary overlay of %s, in %s", place, d.Grows)
			}
		}
		places = append(places, place)
	}
	return strings.Join(places, ", ")
}
