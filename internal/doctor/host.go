package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// Host is what the checks look at.
type Host struct {
	Options
	facts    host.Facts
	networks []plan.Network
	asked    bool     // the networks are those of a profile
	admin    bool     // the caller has CAP_NET_ADMIN
	missing  []string // the rights of a keeper that the caller lacks
	plans    []planned
	scratch  *scratch
	findings []Finding // of the checks before
	files    fs.FS     // the host's files, by paths without the first slash
	// resolvConf is the file of the host's name servers.
	resolvConf string
}

// planned is a network with its plan, or with the reason why it has none.
type planned struct {
	network plan.Network
	plan    plan.Plan
	facts   host.Facts
	err     error
}

func newHost(ctx context.Context, o Options) (*Host, error) {
	h := &Host{Options: o, networks: o.Networks, asked: o.Networks != nil, missing: keeper.MissingRights(), files: os.DirFS("/"), resolvConf: "/etc/resolv.conf"}
	h.admin = !slices.Contains(h.missing, "CAP_NET_ADMIN")
	if !h.asked {
		for _, m := range all {
			h.networks = append(h.networks, plan.Network{Name: string(m), Mode: m})
		}
	}
	var err error
	if h.facts, err = host.Observe(ctx, host.Query{}); err != nil {
		return nil, err
	}
	// The checks change nothing, so they do not make the salt.
	salt, _ := os.ReadFile(filepath.Join(o.StateDir, "salt"))
	for _, n := range h.networks {
		h.plans = append(h.plans, h.planFor(ctx, n, salt))
	}
	return h, nil
}

// planFor observes the host and plans a network as a run does.
func (h *Host) planFor(ctx context.Context, n plan.Network, salt []byte) planned {
	p := planned{network: n}
	q := supervisor.QueryOf(n, h.RunDir)
	q.Ask = q.Ask && h.asked // else nothing is decided by it, and it takes a second
	if p.facts, p.err = host.Observe(ctx, q); p.err == nil {
		p.plan, p.err = plan.New(n, p.facts, plan.Options{
			Salt: salt, Remembered: journal.LoadSubnet(h.StateDir, n.Name), Remembered6: journal.LoadSubnet(h.StateDir, journal.Subnet6Of(n.Name)), AssumeYes: !h.asked,
		})
	}
	return p
}

// text is the contents of a file, "" where it cannot be read.
func (h *Host) text(path string) string {
	b, err := fs.ReadFile(h.files, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number is the number in a file, false where there is none.
func (h *Host) number(path string) (int, bool) {
	n, err := strconv.Atoi(h.text(path))
	return n, err == nil
}

// has reports whether a file exists.
func (h *Host) has(path string) bool {
	_, err := fs.Stat(h.files, path)
	return err == nil
}

// sysctl is the value of a key below net, "" where there is none.
func (h *Host) sysctl(key string) string { return h.text("proc/sys/net/" + key) }

// container names the container of the caller, "" without one, as far as files show.
func (h *Host) container() string {
	switch {
	case h.has(".dockerenv"):
		return "Docker"
	case h.has("run/.containerenv"):
		return "Podman"
	}
	return ""
}

// uplinks are the links by which guests leave. Those with a default route come first.
func (h *Host) uplinks() []host.Link {
	var links []host.Link
	for _, name := range h.facts.Uplinks() {
		if l, ok := h.facts.Link(name); ok {
			links = append(links, l)
		}
	}
	return links
}
