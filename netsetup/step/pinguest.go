package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
)

var _ = register[PinGuest]()

// PinGuest is a host route to a guest, before others of its length.
type PinGuest struct {
	Link  string     `json:"link"`
	Guest netip.Addr `json:"guest"`
}

// Do adds the route; one of ours that others were put before is moved.
func (s PinGuest) Do(ctx context.Context, k Kernel) error {
	if err := k.DelPin(ctx, s.Link, s.Guest); err != nil {
		return err
	}
	return k.AddPin(ctx, s.Link, s.Guest)
}

// Undo deletes the route that bears our protocol number.
func (s PinGuest) Undo(ctx context.Context, k Kernel) error { return k.DelPin(ctx, s.Link, s.Guest) }

// Holds reports whether the route is there.
func (s PinGuest) Holds(ctx context.Context, k Kernel) (bool, error) {
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok {
		return false, err
	}
	f, err := k.FIB(ctx)
	return slices.ContainsFunc(f.Routes, func(r host.FIBRoute) bool {
		return r.Protocol == host.PinProtocol && r.Link == l.Index && r.Dst.Addr() == s.Guest
	}), err
}

func (s PinGuest) String() string {
	return fmt.Sprintf("ip route prepend %s/32 dev %s scope link proto %d", s.Guest, s.Link, host.PinProtocol)
}

// UndoString is the command Undo equals.
func (s PinGuest) UndoString() string {
	return fmt.Sprintf("ip route del %s/32 dev %s scope link proto %d", s.Guest, s.Link, host.PinProtocol)
}

var _ = register[PinRule]()

// PinRule looks for host routes to a prefix in the main table, before the rules
// that come later.
type PinRule struct {
	Prefix   netip.Prefix `json:"prefix"`
	Priority int          `json:"priority"`
}

// Do adds the rule.
func (s PinRule) Do(ctx context.Context, k Kernel) error { return k.AddPinRule(ctx, s) }

// Undo deletes the rule that bears our protocol number.
func (s PinRule) Undo(ctx context.Context, k Kernel) error { return k.DelPinRule(ctx, s) }

// Holds reports whether the rule is there.
func (s PinRule) Holds(ctx context.Context, k Kernel) (bool, error) {
	f, err := k.FIB(ctx)
	return slices.ContainsFunc(f.Rules, func(r host.FIBRule) bool { return r.Ours(s.Prefix) && r.Priority == s.Priority }), err
}

func (s PinRule) String() string { return "ip rule add " + s.words() }

// UndoString is the command Undo equals.
func (s PinRule) UndoString() string { return "ip rule del " + s.words() }

func (s PinRule) words() string {
	return fmt.Sprintf("priority %d to %s lookup main suppress_prefixlength 31 protocol %d", s.Priority, s.Prefix, host.PinProtocol)
}
