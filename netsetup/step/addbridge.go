package step

import (
	"context"
	"fmt"
	"net"
	"slices"
)

var _ = Register[AddBridge]()

// AddBridge creates a network's bridge, down and marked.
type AddBridge struct {
	Name  string           `json:"name"`
	MAC   net.HardwareAddr `json:"mac"`
	MTU   int              `json:"mtu"` // bytes
	Alias string           `json:"alias"`

	// Carries is the NIC whose addresses move to the bridge, "" for none. Undo does not
	// delete a bridge that still has them: they would be lost with it.
	Carries string `json:"carries,omitempty"`
}

// Do creates the bridge and then marks it: the kernel takes no ifalias at creation.
func (s AddBridge) Do(ctx context.Context, k Kernel) error {
	if err := free(ctx, k, "add bridge", s.Name, s.Alias); err != nil {
		return err
	}
	return k.AddBridge(ctx, s)
}

// Undo deletes the bridge. Its addresses, routes and sysctls go with it, and its ports are
// released.
func (s AddBridge) Undo(ctx context.Context, k Kernel) error { return delMade(ctx, k, s) }

// Made finds the bridge by our mark, or by our MAC where a kill came between its creation
// and its mark. It returns an error if the bridge still has the host's addresses.
func (s AddBridge) Made(ctx context.Context, k Kernel) (string, error) {
	l, ok, err := k.Link(ctx, s.Name)
	if err != nil || !ok {
		return "", err
	}
	unmarked := l.Alias == "" && l.MAC.String() == s.MAC.String()
	if l.Kind != "bridge" || l.Alias != s.Alias && !unmarked {
		return "", nil
	}
	if s.Carries == "" {
		return s.Name, nil
	}
	carries, err := k.CarriesHost(ctx, s.Name)
	if err == nil && carries {
		err = fmt.Errorf("delete bridge %q: it still has the host's addresses: give them back to %q, then run: qnet gc", s.Name, s.Carries)
	}
	if err != nil {
		return "", err
	}
	return s.Name, nil
}

// Holds reports whether the bridge is there and bears our mark.
func (s AddBridge) Holds(ctx context.Context, k Kernel) (bool, error) {
	return marked(ctx, k, s.Name, s.Alias)
}

func (s AddBridge) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nip link set %s alias %s",
		s.Name, s.MAC, s.MTU, s.Name, s.Alias)
}

// UndoString is the command that deletes the bridge.
func (s AddBridge) UndoString() string { return "ip link del " + s.Name }

// Drift tells of a bridge that is gone, and of addresses that will go with the bridge.
func (s AddBridge) Drift(ctx context.Context, k Kernel, all []Step) []string {
	var texts []string
	if holds, err := s.Holds(ctx, k); err == nil && !holds {
		texts = append(texts, fmt.Sprintf("bridge %s is gone, or another program's by now: left as it is", s.Name))
	}
	if s.Carries == "" { // else the addresses move back to the NIC
		texts = append(texts, s.strangers(ctx, k, all)...)
	}
	return texts
}

// strangers tells of the bridge's addresses that no step added.
func (s AddBridge) strangers(ctx context.Context, k Kernel, all []Step) []string {
	addrs, err := k.Addrs(ctx, s.Name)
	if err != nil {
		return nil
	}
	ours := All[AddAddr](all)
	var texts []string
	for _, a := range addrs {
		if !slices.ContainsFunc(ours, func(s AddAddr) bool { return s.Prefix == a }) {
			texts = append(texts, fmt.Sprintf("address %s of bridge %s was another program's, and goes with the bridge", a, s.Name))
		}
	}
	return texts
}
