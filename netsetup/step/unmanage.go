package step

import "context"

var _ = Register[Unmanage]()

// NetworkManager is the program of that name, where it runs.
type NetworkManager interface {
	SetManaged(ctx context.Context, link string, managed bool) error
	Managed(ctx context.Context, link string) (bool, error)
}

// Unmanage has NetworkManager let go of a NIC before the NIC becomes a port. Else
// NetworkManager would find after a while that its lease is lost, and take the NIC back.
type Unmanage struct {
	Link string `json:"link"`
}

// Do has NetworkManager let go. The NIC keeps its addresses and routes.
func (s Unmanage) Do(ctx context.Context, k Kernel) error { return k.SetManaged(ctx, s.Link, false) }

// Undo gives the NIC back to NetworkManager, unless another program did. NetworkManager
// then asks for its lease again, and the host is without its address for some 50 ms.
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

// UndoString is the command that gives the NIC back.
func (s Unmanage) UndoString() string { return "nmcli device set " + s.Link + " managed yes" }

// WaitsFor names NetworkManager and the link.
func (s Unmanage) WaitsFor() string { return "NetworkManager to let go of " + s.Link }
