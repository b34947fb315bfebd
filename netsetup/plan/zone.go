package plan

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/subnet"
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
		z.Name, z.Rules = trusted, ZoneRules(p.Prefix)
	}
	return step.SetZone{Zone: z}, true
}

// ZoneRules are firewalld's rich rules (firewalld.richlanguage(5)) that let guests reach DNS and
// ping at the gateway's address, and nothing else of the host. A port that the administrator
// adds to the zone stands before the last of them.
func ZoneRules(guests netip.Prefix) []string {
	from, _ := guestsRule(guests)
	return append(GatewayRules(guests), `rule priority="32767" `+from+" reject") // after all others
}

// GatewayRules are those of ZoneRules that let guests reach something.
func GatewayRules(guests netip.Prefix) []string {
	_, gateway := guestsRule(guests)
	return []string{
		gateway + ` port port="53" protocol="udp" accept`,
		gateway + ` port port="53" protocol="tcp" accept`,
		gateway + ` icmp-type name="echo-request" accept`,
	}
}

// FormerZoneRules are those that an older qnet added and this one does not.
func FormerZoneRules(guests netip.Prefix) []string {
	_, gateway := guestsRule(guests)
	return []string{gateway + " accept"}
}

// guestsRule begins a rule about what guests send, and one about what they send to the gateway.
func guestsRule(guests netip.Prefix) (from, gateway string) {
	from = fmt.Sprintf("family=%q source address=%q", "ipv4", guests)
	return from, fmt.Sprintf(`rule %s destination address="%s/32"`, from, subnet.Gateway(guests))
}
