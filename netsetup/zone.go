package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/profiles"
)

// SetZone puts our bridge into a zone of a running firewalld, which would let
// nothing pass from and to a link of its default zone. Nothing of it is permanent.
type SetZone struct {
	Zone firewalld.Zone `json:"zone"`
}

// trusted is firewalld's zone that lets links forward.
const trusted = "trusted"

// zone is what a running firewalld has to be told of the plan's bridge. There is
// nothing to tell where none runs, of a bridge that is the host's own, and of one
// that the administrator put into a zone.
func (p *Plan) zone(f firewalld.State) (SetZone, bool) {
	own := slices.ContainsFunc(p.Steps, func(s Step) bool { _, is := s.(AddBridge); return is })
	if !f.Running || !own || f.Zones[p.Bridge] != "" {
		return SetZone{}, false
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
		z.Name, z.Rules = trusted, guestRules(p.Prefix)
	}
	return SetZone{Zone: z}, true
}

// guestRules are a zone's rules for what guests may reach of the host.
func guestRules(guests netip.Prefix) []string {
	from := fmt.Sprintf("family=%q source address=%q", "ipv4", guests)
	return []string{
		fmt.Sprintf(`rule %s destination address="%s/32" accept`, from, Gateway(guests)),
		`rule priority="32767" ` + from + " reject", // after all others
	}
}

// FindZone returns the step of the list that tells firewalld of the bridge.
func FindZone(steps StepList) (SetZone, bool) {
	for _, s := range steps {
		if zone, ok := s.(SetZone); ok {
			return zone, true
		}
	}
	return SetZone{}, false
}

// NewZone is the step for a firewalld that started while the network runs.
func NewZone(p Plan, f firewalld.State) (SetZone, bool) { return p.zone(f) }

// Do tells firewalld. The bridge need not be there yet.
func (s SetZone) Do(k Kernel) error {
	if err := k.SetZone(s.Zone); err != nil {
		return fmt.Errorf("%w; to do it yourself:\n%s", err, s)
	}
	return nil
}

// Undo takes it back, if the bridge still is in that zone.
func (s SetZone) Undo(k Kernel) error { return k.UnsetZone(s.Zone) }

// Holds reports whether firewalld knows of the bridge, or does not run.
func (s SetZone) Holds(k Kernel) (bool, error) { return k.InZone(s.Zone) }

func (s SetZone) String() string {
	return s.command("--add-rich-rule", "--add-interface")
}

// UndoString is the command Undo equals.
func (s SetZone) UndoString() string {
	lines := strings.Split(s.command("--remove-rich-rule", "--remove-interface"), "\n")
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

func (s SetZone) command(rule, link string) string {
	var lines []string
	for _, r := range s.Zone.Rules {
		lines = append(lines, fmt.Sprintf("firewall-cmd --zone=%s %s='%s'", s.Zone.Name, rule, r))
	}
	return strings.Join(append(lines, fmt.Sprintf("firewall-cmd --zone=%s %s=%s", s.Zone.Name, link, s.Zone.Link)), "\n")
}
