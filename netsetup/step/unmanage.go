package step

import "context"

var _ = register[Unmanage]()

// Unmanage has NetworkManager let go of a NIC before that becomes a port, or it
// would find its lease lost after a while and take the NIC back.
type Unmanage struct {
	Link string `json:"link"`
}

// Do has it let go. The NIC keeps what it has.
func (s Unmanage) Do(ctx context.Context, k Kernel) error { return k.SetManaged(ctx, s.Link, false) }

// Undo gives the NIC back, unless somebody did; NetworkManager then asks for its
// lease again, and the host is without its address for some 50 ms.
func (s Unmanage) Undo(ctx context.Context, k Kernel) error {
	if managed, err := k.Managed(ctx, s.Link); err != nil || managed {
		return err
	}
	return k.SetManaged(ctx, s.Link, true)
}

// Holds reports whether NetworkManager leaves the NIC alone.
func (s Unmanage) Holds(ctx context.Context, k Kernel) (bool, error) {
	managed, err := k.Managed(ctx, s.Link)
	return !managed, err
}

func (s Unmanage) String() string { return "nmcli device set " + s.Link + " managed no" }

// UndoString is the command Undo equals.
func (s Unmanage) UndoString() string { return "nmcli device set " + s.Link + " managed yes" }

// WaitsFor names NetworkManager and the link.
func (s Unmanage) WaitsFor() string { return "NetworkManager to let go of " + s.Link }
