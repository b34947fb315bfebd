package step

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/host"
)

var _ = Register[SetPort]()

// SetPort makes a link a port of a bridge. Restore tells that the link is the host's own
// and must be released.
type SetPort struct {
	Link    string `json:"link"`
	Bridge  string `json:"bridge"`
	Restore bool   `json:"restore,omitempty"`
}

// Do makes the link a port. It refuses a link that is a port already: the kernel would
// silently take the link away from its bridge.
func (s SetPort) Do(ctx context.Context, k Kernel) error {
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil {
		return err
	}
	if ok && l.Master != 0 {
		return host.Refuse("set %q master %s: it already is a port: release it with: ip link set %s nomaster", s.Link, s.Bridge, s.Link)
	}
	return k.SetMaster(ctx, s.Link, s.Bridge)
}

// Undo releases the host's link if it still is a port of the bridge.
func (s SetPort) Undo(ctx context.Context, k Kernel) error {
	if !s.Restore {
		return nil
	}
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok || l.Master == 0 {
		return err
	}
	b, ok, err := k.Link(ctx, s.Bridge)
	if err != nil || !ok || b.Index != l.Master {
		return err
	}
	return k.SetMaster(ctx, s.Link, "")
}

// Holds reports whether the link is a port of the bridge. A link of the host's that is
// gone counts as one: qnet cannot mend that.
func (s SetPort) Holds(ctx context.Context, k Kernel) (bool, error) {
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok {
		return s.Restore, err
	}
	b, ok, err := k.Link(ctx, s.Bridge)
	return ok && b.Index == l.Master, err
}

func (s SetPort) String() string { return "ip link set " + s.Link + " master " + s.Bridge }

// UndoString is the command that releases the host's link, "" for one of qnet's.
func (s SetPort) UndoString() string {
	if !s.Restore {
		return ""
	}
	return "ip link set " + s.Link + " nomaster"
}
