package step

import (
	"context"
	"fmt"
	"net"
)

// Do creates the bridge and then marks it: the kernel takes no ifalias at creation.
func (s AddBridge) Do(ctx context.Context, k Kernel) error {
	l, ok, err := k.Link(ctx, s.Name)
	if err != nil {
		return err
	}
	if ok {
		return fmt.Errorf("add bridge %q: %w", s.Name, taken(l, s.Alias))
	}
	return k.AddBridge(ctx, s)
}

// Undo deletes the bridge. Its address, routes, sysctls and ports' membership go
// with it.
func (s AddBridge) Undo(ctx context.Context, k Kernel) error { return delMade(ctx, k, s) }

// Made finds the bridge if it bears our mark, or if it is the one we were killed
// at before it was marked, which our MAC tells.
func (s AddBridge) Made(ctx context.Context, k Kernel) (string, error) {
	l, ok, err := k.Link(ctx, s.Name)
	if err != nil || !ok {
		return "", err
	}
	unmarked := l.Alias == "" && l.MAC.String() == s.MAC.String()
	if l.Kind != "bridge" || l.Alias != s.Alias && !unmarked {
		return "", nil
	}
	if s.Carries != "" {
		carries, err := k.CarriesHost(ctx, s.Name)
		if err == nil && carries {
			err = fmt.Errorf("delete bridge %q: it still has the host's addresses", s.Name)
		}
		if err != nil {
			return "", err
		}
	}
	return s.Name, nil
}

func (s AddBridge) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nip link set %s alias %s",
		s.Name, s.MAC, s.MTU, s.Name, s.Alias)
}

// UndoString is the command Undo equals.
func (s AddBridge) UndoString() string { return "ip link del " + s.Name }

// Holds reports whether the bridge is there and bears our mark.
func (s AddBridge) Holds(ctx context.Context, k Kernel) (bool, error) {
	return marked(ctx, k, s.Name, s.Alias)
}

var _ = register[AddBridge]()

// AddBridge is the step that creates a network's bridge, down and marked.
type AddBridge struct {
	Name  string           `json:"name"`
	MAC   net.HardwareAddr `json:"mac"`
	MTU   int              `json:"mtu"`
	Alias string           `json:"alias"`

	// Carries is the NIC whose addresses are moved to the bridge, "" for none. Undo
	// leaves a bridge that still has them: it would take them along.
	Carries string `json:"carries,omitempty"`
}
