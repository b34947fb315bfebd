package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// PolicyRules lists the IPv4 policy rules (fib.ReadRules).
func (h *Host) PolicyRules(context.Context) ([]fib.Rule, error) { return fib.ReadRules() }

// AddExit makes guests leave by a link. What is there stays.
//
//	ip route replace default via GATEWAY dev LINK onlink table T proto 113
//	ip rule add priority N iif BRIDGE lookup main suppress_prefixlength 1 protocol 113
//	ip rule add priority N+1 iif BRIDGE lookup T protocol 113
func (h *Host) AddExit(ctx context.Context, s step.LeaveBy) error {
	l, ok, err := h.Link(ctx, s.Link)
	if err == nil && !ok {
		err = fmt.Errorf("there is no link %q", s.Link)
	}
	if err == nil {
		err = host.Explain(netlink.RouteReplace(exitRoute(s, l.Index)))
	}
	if err != nil {
		return fmt.Errorf("add default route of guests by %q: %w", s.Link, err)
	}
	for _, r := range exitRules(s) {
		if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add policy rule: %w", host.Explain(err))
		}
	}
	return nil
}

// DelExit deletes what AddExit made. It is no error if it is gone.
//
//	ip rule del priority N+1 iif BRIDGE lookup T protocol 113
//	ip rule del priority N iif BRIDGE lookup main suppress_prefixlength 1 protocol 113
//	ip route del default table T proto 113
func (h *Host) DelExit(_ context.Context, s step.LeaveBy) error {
	var errs []error
	rules := exitRules(s)
	for _, r := range []*netlink.Rule{rules[1], rules[0]} {
		if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete policy rule: %w", host.Explain(err)))
		}
	}
	route := &netlink.Route{Dst: everywhere(), Table: s.Table, Protocol: fib.PinProtocol, Scope: netlink.SCOPE_NOWHERE}
	if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		errs = append(errs, fmt.Errorf("delete default route of guests: %w", host.Explain(err)))
	}
	return errors.Join(errs...)
}

func everywhere() *net.IPNet { return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)} }

func exitRoute(s step.LeaveBy, link int) *netlink.Route {
	r := &netlink.Route{LinkIndex: link, Dst: everywhere(), Table: s.Table, Protocol: fib.PinProtocol, Scope: netlink.SCOPE_LINK}
	if !s.Via.IsValid() {
		return r
	}
	r.Scope, r.Flags = netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
	if s.Via.Is4() {
		r.Gw = s.Via.AsSlice()
	} else {
		r.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: s.Via.AsSlice()}
	}
	return r
}

// exitRules returns the two rules in the order in which the kernel applies them.
func exitRules(s step.LeaveBy) [2]*netlink.Rule {
	var rules [2]*netlink.Rule
	for i := range rules {
		r := netlink.NewRule()
		r.Family, r.Priority, r.IifName, r.Table, r.Protocol = netlink.FAMILY_V4, s.Priority+i, s.Bridge, s.Table, fib.PinProtocol
		rules[i] = r
	}
	rules[0].Table, rules[0].SuppressPrefixlen = fib.MainTable, 1
	return rules
}
