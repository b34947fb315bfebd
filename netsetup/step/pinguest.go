package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/fib"
)

var _ = Register[PinGuest]()

// Pins are host routes to guests, and the policy rules that lead to them. They bear the
// protocol number fib.PinProtocol. Deleting one that is gone is no error.
type Pins interface {
	FIB(ctx context.Context, about netip.Prefix) (fib.FIB, error)
	AddPin(ctx context.Context, link string, guest netip.Addr) error
	DelPin(ctx context.Context, link string, guest netip.Addr) error
	AddPinRule(ctx context.Context, s PinRule) error
	DelPinRule(ctx context.Context, s PinRule) error
}

// PinGuest adds a host route to a guest before other routes of that length.
type PinGuest struct {
	Link  string     `json:"link"` // the bridge
	Guest netip.Addr `json:"guest"`
}

// Do adds the route. It moves one of ours that another program put a route before.
func (s PinGuest) Do(ctx context.Context, k Kernel) error {
	if err := k.DelPin(ctx, s.Link, s.Guest); err != nil {
		return err
	}
	return k.AddPin(ctx, s.Link, s.Guest)
}

// Undo deletes the route if it bears our protocol number.
func (s PinGuest) Undo(ctx context.Context, k Kernel) error { return k.DelPin(ctx, s.Link, s.Guest) }

// Holds reports whether the route is there.
func (s PinGuest) Holds(ctx context.Context, k Kernel) (bool, error) {
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok {
		return false, err
	}
	f, err := k.FIB(ctx, netip.PrefixFrom(s.Guest, s.Guest.BitLen()))
	return slices.ContainsFunc(f.Routes, func(r fib.Route) bool {
		return r.Protocol == fib.PinProtocol && r.Link == l.Index && r.Dst.Addr() == s.Guest
	}), err
}

func (s PinGuest) String() string { return "ip route prepend " + s.words() }

// UndoString is the command that deletes the route.
func (s PinGuest) UndoString() string { return "ip route del " + s.words() }

func (s PinGuest) words() string {
	return fmt.Sprintf("%s/32 dev %s scope link proto %d", s.Guest, s.Link, fib.PinProtocol)
}
