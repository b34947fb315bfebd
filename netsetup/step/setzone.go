package step

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
)

var _ = Register[SetZone]()

// Zones are firewalld's. Where firewalld does not run, the methods do nothing.
type Zones interface {
	SetZone(ctx context.Context, z firewalld.Zone) error
	// UnsetZone takes the link out of the zone if it still is in it.
	UnsetZone(ctx context.Context, z firewalld.Zone) error
	// InZone reports true where firewalld does not run.
	InZone(ctx context.Context, z firewalld.Zone) (bool, error)
}

// SetZone puts the network's bridge into a zone of the running firewalld, which lets
// nothing pass from and to a link of no zone. Nothing of this is permanent.
type SetZone struct {
	Zone firewalld.Zone `json:"zone"`
}

// Do puts the bridge into the zone. The bridge need not be there yet.
func (s SetZone) Do(ctx context.Context, k Kernel) error {
	if err := k.SetZone(ctx, s.Zone); err != nil {
		return fmt.Errorf("%w; to do it yourself:\n%s", err, s)
	}
	return nil
}

// Undo takes the bridge out of the zone if it still is in it.
func (s SetZone) Undo(ctx context.Context, k Kernel) error { return k.UnsetZone(ctx, s.Zone) }

// Holds reports whether the bridge is in the zone, or firewalld does not run.
func (s SetZone) Holds(ctx context.Context, k Kernel) (bool, error) { return k.InZone(ctx, s.Zone) }

func (s SetZone) String() string { return strings.Join(s.commands("add"), "\n") }

// UndoString is the commands that take the bridge and the rules out of the zone.
func (s SetZone) UndoString() string {
	lines := s.commands("remove")
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

// commands are those that add the rules and then the link to the zone; or with the verb
// "remove", that remove them.
func (s SetZone) commands(verb string) []string {
	var lines []string
	for _, r := range s.Zone.Rules {
		lines = append(lines, fmt.Sprintf("firewall-cmd --zone=%s --%s-rich-rule='%s'", s.Zone.Name, verb, r))
	}
	return append(lines, fmt.Sprintf("firewall-cmd --zone=%s --%s-interface=%s", s.Zone.Name, verb, s.Zone.Link))
}

// IsOptional makes it Optional.
func (SetZone) IsOptional() {}

// WaitsFor names firewalld.
func (SetZone) WaitsFor() string { return "firewalld" }
