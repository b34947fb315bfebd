package step

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/fib"
)

var _ = Register[LeaveBy]()

// Exits are the policy rules and routes by which guests leave by another link than the host.
// They bear the protocol number fib.PinProtocol.
type Exits interface {
	// PolicyRules lists the IPv4 policy rules in the kernel's order.
	PolicyRules(ctx context.Context) ([]fib.Rule, error)
	// AddExit makes what of it is not there, and gives the route another gateway.
	AddExit(ctx context.Context, s LeaveBy) error
	// DelExit deletes it. It is no error if it is gone.
	DelExit(ctx context.Context, s LeaveBy) error
}

// LeaveBy makes guests leave by a link to which the host's own routing does not send them. A
// table of its own has a default route by the link. Two policy rules are for what comes in by
// the bridge: first come the main table's routes but for default ones and halves of them,
// then that table.
type LeaveBy struct {
	Bridge   string     `json:"bridge"`
	Link     string     `json:"link"`
	Via      netip.Addr `json:"via,omitzero"` // the gateway, of either family; not valid on a link
	Table    int        `json:"table"`
	Priority int        `json:"priority"` // of the first rule; the second has the next one
}

// Do makes the route, then the rules.
func (s LeaveBy) Do(ctx context.Context, k Kernel) error { return k.AddExit(ctx, s) }

// Undo deletes the rules and the route if they bear our protocol number.
func (s LeaveBy) Undo(ctx context.Context, k Kernel) error { return k.DelExit(ctx, s) }

// Holds reports whether the rules are there. The route goes with the link's default route,
// which the keeper follows.
func (s LeaveBy) Holds(ctx context.Context, k Kernel) (bool, error) {
	rules, err := k.PolicyRules(ctx)
	return s.In(rules), err
}

// In reports whether both rules are among the host's.
func (s LeaveBy) In(rules []fib.Rule) bool {
	there := func(priority, table int) bool {
		return slices.ContainsFunc(rules, func(r fib.Rule) bool {
			return r.Protocol == fib.PinProtocol && r.In == s.Bridge && r.Priority == priority && r.Table == table
		})
	}
	return there(s.Priority, fib.MainTable) && there(s.Priority+1, s.Table)
}

func (s LeaveBy) String() string {
	via := ""
	switch {
	case s.Via.Is4():
		via = fmt.Sprintf("via %s ", s.Via)
	case s.Via.IsValid():
		via = fmt.Sprintf("via inet6 %s ", s.Via)
	}
	onLink := ""
	if via != "" {
		onLink = "onlink "
	}
	route := fmt.Sprintf("ip route replace default %sdev %s %stable %d proto %d", via, s.Link, onLink, s.Table, fib.PinProtocol)
	return strings.Join([]string{route, "ip rule add " + s.mainRule(), "ip rule add " + s.ownRule()}, "\n")
}

// UndoString is the commands that delete the rules and the route.
func (s LeaveBy) UndoString() string {
	route := fmt.Sprintf("ip route del default table %d proto %d", s.Table, fib.PinProtocol)
	return strings.Join([]string{"ip rule del " + s.ownRule(), "ip rule del " + s.mainRule(), route}, "\n")
}

func (s LeaveBy) mainRule() string {
	return fmt.Sprintf("priority %d iif %s lookup main suppress_prefixlength 1 protocol %d", s.Priority, s.Bridge, fib.PinProtocol)
}

func (s LeaveBy) ownRule() string {
	return fmt.Sprintf("priority %d iif %s lookup %d protocol %d", s.Priority+1, s.Bridge, s.Table, fib.PinProtocol)
}
