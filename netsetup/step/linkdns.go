package step

import (
	"context"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/resolved"
)

var _ = Register[LinkDNS]()

// Resolver is systemd-resolved. Where it does not run, its methods do nothing.
type Resolver interface {
	// TellResolved gives a link the settings.
	TellResolved(ctx context.Context, link string, s resolved.Settings) error
	// RevertResolved makes systemd-resolved forget a link's settings.
	RevertResolved(ctx context.Context, link string) error
	// TellResolvedBack gives the NIC the settings that the bridge has, or the step's where
	// the bridge is gone.
	TellResolvedBack(ctx context.Context, s LinkDNS) error
}

// LinkDNS gives the bridge, in systemd-resolved, the DNS settings of the NIC whose
// addresses it takes over: systemd-resolved asks a link's servers only by that link.
type LinkDNS struct {
	Link     string            `json:"link"` // the bridge
	NIC      string            `json:"nic"`
	Settings resolved.Settings `json:"settings"`
}

// Do gives the bridge the settings, before it has an address: from the moment when it has
// one, systemd-resolved asks the servers by it.
func (s LinkDNS) Do(ctx context.Context, k Kernel) error {
	return k.TellResolved(ctx, s.Link, s.Settings)
}

// Undo gives the NIC the settings that the bridge has by then. The move has been undone
// before. systemd-resolved forgets the bridge's when the bridge is deleted.
func (s LinkDNS) Undo(ctx context.Context, k Kernel) error { return k.TellResolvedBack(ctx, s) }

// Holds reports true: a program that changes the bridge's settings has a reason.
func (s LinkDNS) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s LinkDNS) String() string { return strings.Join(s.Settings.Commands(s.Link), "\n") }

// UndoString is the commands that give the NIC the settings.
func (s LinkDNS) UndoString() string { return strings.Join(s.Settings.Commands(s.NIC), "\n") }

// WaitsFor names systemd-resolved.
func (LinkDNS) WaitsFor() string { return "systemd-resolved" }

// GoesWithBridge reports true: systemd-resolved forgets a link that is deleted, and Holds
// does not ask it.
func (LinkDNS) GoesWithBridge() bool { return true }
