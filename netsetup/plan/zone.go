package plan

import (
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// trusted is the zone of firewalld that lets links forward.
const trusted = "trusted"

// Zone is the step that puts the network's bridge into a zone of a running firewalld. It is
// false where firewalld does not run, for a bridge of the host's own, and for a bridge that
// the administrator put into a zone. The keeper asks again when firewalld starts.
func (p Plan) Zone(f firewalld.State) (step.SetZone, bool) {
	_, own := step.Find[step.AddBridge](p.Steps)
	if !f.Running || !own || f.Zones[p.Bridge] != "" {
		return step.SetZone{}, false
	}
	// Every zone passes frames from port to port, which firewalld sees where br_netfilter
	// is on. Only "trusted" forwards to other zones. It lets everything in to the host,
	// too, so rules limit guests to what the network needs of the gateway.
	z := firewalld.Zone{Name: f.Default, Link: p.Bridge}
	switch p.Network.Mode {
	case profiles.Bridge:
		if zone := f.Zones[p.Network.Uplink]; zone != "" {
			z.Name = zone
		}
	case profiles.HostOnly, profiles.NAT:
		z.Name, z.Rules = trusted, firewalld.ZoneRules(p.Prefix, p.Prefix6)
	}
	return step.SetZone{Zone: z}, true
}
