package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

var _ = register[AddAddr]()

// AddAddr gives our bridge the host's address.
type AddAddr struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"`
}

// Do adds the address.
func (s AddAddr) Do(ctx context.Context, k Kernel) error { return k.AddAddr(ctx, s.Link, s.Prefix) }

// Undo does nothing: the address goes with the bridge.
func (s AddAddr) Undo(context.Context, Kernel) error { return nil }

func (s AddAddr) String() string {
	return fmt.Sprintf("ip addr add %s broadcast + dev %s", s.Prefix, s.Link)
}

// UndoString is empty: the address goes with the bridge.
func (s AddAddr) UndoString() string { return "" }

// Holds reports whether the link has the address.
func (s AddAddr) Holds(ctx context.Context, k Kernel) (bool, error) {
	addrs, err := k.Addrs(ctx, s.Link)
	return slices.Contains(addrs, s.Prefix), err
}
