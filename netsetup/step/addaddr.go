package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

var _ = Register[AddAddr]()

// Addresses are those of a link.
type Addresses interface {
	AddAddr(ctx context.Context, link string, p netip.Prefix) error
	// Addrs lists the link's addresses but for IPv6 link-local ones, which the kernel makes.
	Addrs(ctx context.Context, link string) ([]netip.Prefix, error)
	// CarriesHost reports whether the bridge has an address that is not link-local.
	CarriesHost(ctx context.Context, bridge string) (bool, error)
}

// AddAddr gives the network's bridge the host's address.
type AddAddr struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"` // the address, with its subnet's length
}

// Do adds the address.
func (s AddAddr) Do(ctx context.Context, k Kernel) error { return k.AddAddr(ctx, s.Link, s.Prefix) }

// Undo does nothing: the address goes with the bridge.
func (s AddAddr) Undo(context.Context, Kernel) error { return nil }

// Holds reports whether the link has the address.
func (s AddAddr) Holds(ctx context.Context, k Kernel) (bool, error) {
	addrs, err := k.Addrs(ctx, s.Link)
	return slices.Contains(addrs, s.Prefix), err
}

func (s AddAddr) String() string {
	return fmt.Sprintf("ip addr add %s %s dev %s", s.Prefix, map[bool]string{false: "broadcast +", true: "nodad"}[s.Prefix.Addr().Is6()], s.Link)
}

// UndoString is "": the address goes with the bridge.
func (s AddAddr) UndoString() string { return "" }
