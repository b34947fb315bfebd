package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// pinnedTo gives the host a network whose profile names that uplink, of MTU 1400, and what its
// guests do not reach.
func pinnedTo(uplink string, unreached ...string) func(*Host) {
	return func(h *Host) {
		p := natPlan()
		p.network.Uplink, p.plan.Network.Uplink, p.plan.Uplinks, p.plan.Unreached = uplink, uplink, []string{uplink}, unreached
		h.facts.Links = append(h.facts.Links, link("eth1", 1400))
		h.plans = []planned{p}
	}
}

func unplanned(h *Host) {
	h.plans = []planned{{network: plan.Network{Mode: profiles.NAT}, err: errors.New("refused")}}
}

// What the checks say of uplinks and MTU is what the plans of the profile's networks decide.
func TestUplinkChecks(t *testing.T) {
	for name, c := range map[string]struct {
		check    func(context.Context, *Host) []Finding
		change   func(*Host)
		status   Status
		evidence string // a part of it
	}{
		"the profile's uplink": {checkUplinks, pinnedTo("eth1"), Pass, "guests leave by eth1 (its"},
		"a dead uplink":        {checkUplinks, pinnedTo("eth1", "eth1 is down: ip link set eth1 up"), Warn, "eth1 is down: ip link set eth1 up"},
		"a second LAN": {checkUplinks, func(h *Host) {
			pinnedTo("eth0")(h)
			h.plans[0].plan.Beside = []string{"vmbr1"}
		}, Pass, "and reach what is behind vmbr1 (its forwarding"},
		"many links": {checkUplinks, func(h *Host) {
			pinnedTo("eth0")(h)
			h.plans[0].plan.Beside = make([]string, 10)
		}, Pass, "and 2 more"},
		"no plan":                     {checkUplinks, unplanned, Unseen, "no network of mode nat has a plan"},
		"no MTU":                      {checkMTU, unplanned, Unseen, "no network of mode nat has an uplink"},
		"MTU of the profile's uplink": {checkMTU, pinnedTo("eth1"), Warn, "eth1 has MTU 1400"},
		"a bridge without a port": {checkPlans, func(h *Host) {
			n := plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}
			h.plans = []planned{{network: n, plan: plan.Plan{Network: n, Bridge: "br0", Unreached: []string{"no LAN: br0 is a bridge without a port"}}}}
		}, Warn, "no LAN: br0"},
	} {
		h := online()
		c.change(h)
		list := c.check(t.Context(), h)
		if len(list) != 1 || list[0].Status != c.status || !strings.Contains(list[0].Evidence, c.evidence) {
			t.Errorf("%s: got %+v, want %s, %q", name, list, c.status, c.evidence)
		}
	}
}
