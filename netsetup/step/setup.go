package step

import "context"

var _ = register[SetUp]()

// SetUp sets a link up. Restore tells that it is the host's own and was down.
type SetUp struct {
	Link    string `json:"link"`
	Restore bool   `json:"restore,omitempty"`
}

// Do sets the link up.
func (s SetUp) Do(ctx context.Context, k Kernel) error { return k.SetUp(ctx, s.Link, true) }

// Undo sets a link of the host's down again.
func (s SetUp) Undo(ctx context.Context, k Kernel) error {
	if !s.Restore {
		return nil
	}
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err
	}
	return k.SetUp(ctx, s.Link, false)
}

func (s SetUp) String() string { return "ip link set " + s.Link + " up" }

// UndoString is the command Undo equals.
func (s SetUp) UndoString() string {
	if !s.Restore {
		return ""
	}
	return "ip link set " + s.Link + " down"
}

// Holds reports whether the link is up.
func (s SetUp) Holds(ctx context.Context, k Kernel) (bool, error) {
	l, ok, err := k.Link(ctx, s.Link)
	return ok && l.Up || !ok && s.Restore, err // the host's own link may be gone
}
