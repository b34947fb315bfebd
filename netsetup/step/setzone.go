package step

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
)

var _ = register[SetZone]()

// SetZone puts our bridge into a zone of a running firewalld, which would let
// nothing pass from and to a link of its default zone. Nothing of it is permanent.
type SetZone struct {
	Zone firewalld.Zone `json:"zone"`
}

// Do tells firewalld. The bridge need not be there yet.
func (s SetZone) Do(ctx context.Context, k Kernel) error {
	if err := k.SetZone(ctx, s.Zone); err != nil {
		return fmt.Errorf("%w; to do it yourself:\n%s", err, s)
	}
	return nil
}

// Undo takes it back, if the bridge still is in that zone.
func (s SetZone) Undo(ctx context.Context, k Kernel) error { return k.UnsetZone(ctx, s.Zone) }

// Holds reports whether firewalld knows of the bridge, or does not run.
func (s SetZone) Holds(ctx context.Context, k Kernel) (bool, error) { return k.InZone(ctx, s.Zone) }

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

// IsOptional: without the zone the network stands, and firewalld drops some packets.
func (SetZone) IsOptional() {}

// WaitsFor names firewalld.
func (SetZone) WaitsFor() string { return "firewalld" }
