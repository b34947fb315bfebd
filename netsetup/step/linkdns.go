package step

import (
	"context"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/resolved"
)

var _ = register[LinkDNS]()

// LinkDNS tells systemd-resolved of our bridge what it knows of the NIC whose
// addresses the bridge takes over: it asks a link's servers by that link only.
type LinkDNS struct {
	Link     string            `json:"link"`
	NIC      string            `json:"nic"`
	Settings resolved.Settings `json:"settings"`
}

// Do tells it, before the bridge has an address: the servers are asked from the
// moment on when it has.
func (s LinkDNS) Do(ctx context.Context, k Kernel) error {
	return k.TellResolved(ctx, s.Link, s.Settings)
}

// Undo tells it of the NIC what it knows of the bridge by then, which has moved
// everything back; what it knows of the bridge goes with the bridge.
func (s LinkDNS) Undo(ctx context.Context, k Kernel) error { return k.TellResolvedBack(ctx, s) }

// Holds does not ask: who tells it something else of the bridge has a reason.
func (s LinkDNS) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s LinkDNS) String() string { return strings.Join(s.Settings.Commands(s.Link), "\n") }

// UndoString is the commands Undo equals.
func (s LinkDNS) UndoString() string { return strings.Join(s.Settings.Commands(s.NIC), "\n") }

var _ = register[NoLinkDNS]()

// NoLinkDNS has systemd-resolved forget the NIC's servers when the bridge has its
// addresses. It would go on asking them there, where no answer comes in any more,
// and keep who asks for a name that does not exist waiting for that.
type NoLinkDNS struct {
	NIC string `json:"nic"`
}

// Do reverts the link.
func (s NoLinkDNS) Do(ctx context.Context, k Kernel) error { return k.RevertResolved(ctx, s.NIC) }

// Undo does nothing: LinkDNS tells it, later, when the NIC is no port any more.
func (s NoLinkDNS) Undo(context.Context, Kernel) error { return nil }

// Holds does not ask, as that of LinkDNS.
func (s NoLinkDNS) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s NoLinkDNS) String() string { return "resolvectl revert " + s.NIC }

// UndoString is empty: the undo of LinkDNS does it.
func (s NoLinkDNS) UndoString() string { return "" }

// WaitsFor names systemd-resolved.
func (LinkDNS) WaitsFor() string { return "systemd-resolved" }

// GoesWithBridge: systemd-resolved forgets a link that goes, and Holds does not ask it.
func (LinkDNS) GoesWithBridge() bool { return true }
