package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// Host is what the checks look at.
type Host struct {
	Options
	facts    host.Facts
	networks []plan.Network
	asked    bool // the networks are a profile's
	admin    bool // the caller has CAP_NET_ADMIN
	plans    []planned
	scratch  *scratch
}

// planned is a network with its plan, or why there is none.
type planned struct {
	network plan.Network
	plan    plan.Plan
	facts   host.Facts
	err     error
}

func newHost(ctx context.Context, o Options) (*Host, error) {
	h := &Host{Options: o, networks: o.Networks, asked: o.Networks != nil, admin: hasNetAdmin()}
	if !h.asked {
		for _, m := range all {
			h.networks = append(h.networks, plan.Network{Name: string(m), Mode: m})
		}
	}
	var err error
	if h.facts, err = host.ObserveNetwork(); err != nil {
		return nil, err
	}
	// Looking changes nothing, so a salt that is not there yet is not made.
	salt, _ := os.ReadFile(filepath.Join(o.StateDir, "salt"))
	for _, n := range h.networks {
		p := planned{network: n}
		q := n.Query()
		q.Original = journal.OriginalSysctls(rundir.Network{RunDir: o.RunDir, Name: n.Name})
		if p.facts, p.err = host.Observe(ctx, q); p.err == nil {
			p.plan, p.err = plan.New(n, p.facts, plan.Options{
				Salt: salt, Remembered: journal.LoadSubnet(o.StateDir, n.Name), AssumeYes: !h.asked,
			})
		}
		h.plans = append(h.plans, p)
	}
	return h, nil
}

// hasNetAdmin reports whether the caller has CAP_NET_ADMIN, as root usually does.
func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// sysctl reads a key below /proc/sys/net, "" where there is none.
func sysctl(key string) string {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// uplinks are the links by which guests leave: those with a default route first.
func (h *Host) uplinks() []host.Link {
	var links []host.Link
	for _, name := range h.facts.Uplinks() {
		if l, ok := h.facts.Link(name); ok {
			links = append(links, l)
		}
	}
	return links
}
