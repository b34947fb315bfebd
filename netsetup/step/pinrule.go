package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/fib"
)

var _ = Register[PinRule]()

// PinRule adds a policy rule that looks up host routes to a prefix in the main table, before
// the rules with a higher number.
type PinRule struct {
	Prefix   netip.Prefix `json:"prefix"`
	Priority int          `json:"priority"`
}

// Do adds the rule.
func (s PinRule) Do(ctx context.Context, k Kernel) error { return k.AddPinRule(ctx, s) }

// Undo deletes the rule if it bears our protocol number.
func (s PinRule) Undo(ctx context.Context, k Kernel) error { return k.DelPinRule(ctx, s) }

// Holds reports whether the rule is there.
func (s PinRule) Holds(ctx context.Context, k Kernel) (bool, error) {
	f, err := k.FIB(ctx, s.Prefix)
	return slices.ContainsFunc(f.Rules, func(r fib.Rule) bool { return r.Ours(s.Prefix) && r.Priority == s.Priority }), err
}

func (s PinRule) String() string { return "ip rule add " + s.words() }

// UndoString is the command that deletes the rule.
func (s PinRule) UndoString() string { return "ip rule del " + s.words() }

func (s PinRule) words() string {
	return fmt.Sprintf("priority %d to %s lookup main suppress_prefixlength 31 protocol %d", s.Priority, s.Prefix, fib.PinProtocol)
}
