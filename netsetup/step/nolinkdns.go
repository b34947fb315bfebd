package step

import "context"

var _ = Register[NoLinkDNS]()

// NoLinkDNS makes systemd-resolved forget the NIC's DNS settings when the bridge has the
// NIC's addresses. Else it would go on asking the servers by the NIC, where no reply comes
// in any more, and a query for a name that does not exist would wait for that.
type NoLinkDNS struct {
	NIC string `json:"nic"`
}

// Do reverts the link.
func (s NoLinkDNS) Do(ctx context.Context, k Kernel) error { return k.RevertResolved(ctx, s.NIC) }

// Undo does nothing: the Undo of LinkDNS does it, later, when the NIC is no port any more.
func (s NoLinkDNS) Undo(context.Context, Kernel) error { return nil }

// Holds reports true: a program that changes the NIC's settings has a reason.
func (s NoLinkDNS) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s NoLinkDNS) String() string { return "resolvectl revert " + s.NIC }

// UndoString is "": the Undo of LinkDNS does it.
func (s NoLinkDNS) UndoString() string { return "" }
