package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// FIB reads the host's policy rules, and the IPv4 routes that decide on the addresses of a
// prefix (fib.Read).
func (h *Host) FIB(ctx context.Context, about netip.Prefix) (fib.FIB, error) {
	return fib.Read(about)
}

// pin returns the route of a pin, nil if there is no such link.
func (h *Host) pin(ctx context.Context, link string, guest netip.Addr) (*netlink.Route, error) {
	l, ok, err := h.Link(ctx, link)
	if err != nil || !ok {
		return nil, err
	}
	return &netlink.Route{
		LinkIndex: l.Index, Dst: &net.IPNet{IP: guest.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Scope: netlink.SCOPE_LINK, Protocol: fib.PinProtocol, Table: fib.MainTable,
	}, nil
}

// AddPin adds a route to a guest's address before other routes to it: with neither
// NLM_F_EXCL nor NLM_F_APPEND, the kernel puts it first.
//
//	ip route prepend GUEST/32 dev LINK scope link proto 113
func (h *Host) AddPin(ctx context.Context, link string, guest netip.Addr) error {
	r, err := h.pin(ctx, link, guest)
	if err == nil && r == nil {
		err = fmt.Errorf("there is no link %q", link)
	}
	if err == nil {
		err = netlink.RouteAddEcmp(r)
	}
	if err != nil {
		return fmt.Errorf("add host route to %s: %w", guest, host.Explain(err))
	}
	return nil
}

// DelPin deletes the route of AddPin. It is no error if the route or its link is gone.
//
//	ip route del GUEST/32 dev LINK scope link proto 113
func (h *Host) DelPin(ctx context.Context, link string, guest netip.Addr) error {
	r, err := h.pin(ctx, link, guest)
	if err != nil || r == nil {
		return err // the route went with the link
	}
	if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete host route to %s: %w", guest, host.Explain(err))
	}
	return nil
}

// pinRule returns the rule by which no shorter prefix than a host route of the table main
// counts.
func pinRule(s step.PinRule) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.SuppressPrefixlen, r.Protocol = netlink.FAMILY_V4, s.Priority, fib.MainTable, 31, fib.PinProtocol
	r.Dst = &net.IPNet{IP: s.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(s.Prefix.Bits(), 32)}
	return r
}

// AddPinRule adds a policy rule before which a guest's pin counts. It is no error if the rule
// is there.
//
//	ip rule add priority N to PREFIX lookup main suppress_prefixlength 31 protocol 113
func (h *Host) AddPinRule(ctx context.Context, s step.PinRule) error {
	if err := netlink.RuleAdd(pinRule(s)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add policy rule: %w", host.Explain(err))
	}
	return nil
}

// DelPinRule deletes the rule of AddPinRule. It is no error if the rule is gone.
//
//	ip rule del priority N to PREFIX lookup main suppress_prefixlength 31 protocol 113
func (h *Host) DelPinRule(ctx context.Context, s step.PinRule) error {
	if err := netlink.RuleDel(pinRule(s)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete policy rule: %w", host.Explain(err))
	}
	return nil
}
