package plan

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// trusted is firewalld's zone that lets links forward.
const trusted = "trusted"

// Zone is what a running firewalld has to be told of the plan's bridge. There is
// nothing to tell where none runs, of a bridge that is the host's own, and of one
// that the administrator put into a zone.
func (p Plan) Zone(f firewalld.State) (step.SetZone, bool) {
	_, own := step.Find[step.AddBridge](p.Steps)
	if !f.Running || !own || f.Zones[p.Bridge] != "" {
		return step.SetZone{}, false
	}
	// A zone of any kind passes frames from port to port, which firewalld sees where
	// br_netfilter is on. Only "trusted" forwards to other zones; it lets everything
	// in to the host, too, so its rules hold guests to the gateway's address.
	z := firewalld.Zone{Name: f.Default, Link: p.Bridge}
	switch p.Network.Mode {
	case profiles.Bridge:
		if zone := f.Zones[p.Network.Uplink]; zone != "" {
			z.Name = zone
		}
	case profiles.HostOnly, profiles.NAT:
		z.Name, z.Rules = trusted, ZoneRules(p.Prefix)
	}
	return step.SetZone{Zone: z}, true
}

// ZoneRules are a zone's rules for what guests may reach of the host.
func ZoneRules(guests netip.Prefix) []string {
	from := fmt.Sprintf("family=%q source address=%q", "ipv4", guests)
	return []string{
		fmt.Sprintf(`rule %s destination address="%s/32" accept`, from, Gateway(guests)),
		`rule priority="32767" ` + from + " reject", // after all others
	}
}

