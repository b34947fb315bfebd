package step

import "context"

var _ = Register[SetUp]()

// SetUp sets a link up. Restore tells that the link is the host's own and was down.
type SetUp struct {
	Link    string `json:"link"`
	Restore bool   `json:"restore,omitempty"`
}

// Do sets the link up.
func (s SetUp) Do(ctx context.Context, k Kernel) error { return k.SetUp(ctx, s.Link, true) }

// Undo sets the host's link down again.
func (s SetUp) Undo(ctx context.Context, k Kernel) error {
	if !s.Restore {
		return nil
	}
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err
	}
	return k.SetUp(ctx, s.Link, false)
}

// Holds reports whether the link is up. A link of the host's that is gone counts as up:
// qnet cannot mend that.
func (s SetUp) Holds(ctx context.Context, k Kernel) (bool, error) {
	l, ok, err := k.Link(ctx, s.Link)
	return ok && l.Up || !ok && s.Restore, err
}

func (s SetUp) String() string { return "ip link set " + s.Link + " up" }

// UndoString is the command that sets the host's link down, "" for one of qnet's.
func (s SetUp) UndoString() string {
	if !s.Restore {
		return ""
	}
	return "ip link set " + s.Link + " down"
}
