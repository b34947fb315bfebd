package egress

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/step"
)

var _ = step.Register[Isolate]()

// Isolate has the bridge pass no frame between the port and its other isolated ports
// (IFLA_BRPORT_ISOLATED of linux/if_link.h). It ends with the link.
type Isolate struct {
	Link string `json:"link"`
}

// Do isolates the port.
func (s Isolate) Do(ctx context.Context, k step.Kernel) error { return k.IsolatePort(ctx, s.Link) }

// Undo does nothing.
func (Isolate) Undo(context.Context, step.Kernel) error { return nil }

// Holds reports whether the port is isolated.
func (s Isolate) Holds(ctx context.Context, k step.Kernel) (bool, error) {
	return k.PortIsolated(ctx, s.Link)
}

func (s Isolate) String() string { return "bridge link set dev " + s.Link + " isolated on" }

// UndoString is empty.
func (Isolate) UndoString() string { return "" }
