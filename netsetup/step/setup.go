package step

// SetUp sets a link up. Restore tells that it is the host's own and was down.
type SetUp struct {
	Link    string `json:"link"`
	Restore bool   `json:"restore,omitempty"`
}

// Do sets the link up.
func (s SetUp) Do(k Kernel) error { return k.SetUp(s.Link, true) }

// Undo sets a link of the host's down again.
func (s SetUp) Undo(k Kernel) error {
	if !s.Restore {
		return nil
	}
	if _, ok, err := k.Link(s.Link); err != nil || !ok {
		return err
	}
	return k.SetUp(s.Link, false)
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
func (s SetUp) Holds(k Kernel) (bool, error) {
	l, ok, err := k.Link(s.Link)
	return ok && l.Up || !ok && s.Restore, err // the host's own link may be gone
}
