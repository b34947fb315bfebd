package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// AddAddr adds an IPv4 address with its prefix's broadcast address, or one of IPv6 that is used at
// once: no other machine has it.
//
//	ip addr add PREFIX broadcast + dev LINK
//	ip addr add PREFIX nodad dev LINK
func (h *Host) AddAddr(ctx context.Context, link string, p netip.Prefix) error {
	ip := net.IP(p.Addr().AsSlice())
	mask := net.CIDRMask(p.Bits(), 8*len(ip))
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: mask}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	} else {
		addr.Broadcast = make(net.IP, len(ip))
		for i := range addr.Broadcast {
			addr.Broadcast[i] = ip[i] | ^mask[i]
		}
	}
	return h.withLink("add address "+p.String()+" to", link, func(l netlink.Link) error { return netlink.AddrAdd(l, addr) })
}

// Addrs lists a link's addresses but for the link-local ones of IPv6, which the kernel makes; none
// if there is no such link.
//
//	ip addr show dev LINK
func (h *Host) Addrs(ctx context.Context, link string) ([]netip.Prefix, error) {
	l, ok, err := h.Link(ctx, link)
	if err != nil || !ok {
		return nil, err
	}
	list, err := host.ReadAddrs(l.Index)
	return slices.DeleteFunc(list, func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() }), err
}

// SetLifetime sets the lifetimes of an address of a link, in seconds from now; rtnl.Forever
// is no end. The address keeps everything else, such as its metric. It is an error if the
// address is gone.
//
//	ip addr change PREFIX dev LINK valid_lft VALID preferred_lft PREFERRED
func SetLifetime(l host.Link, p netip.Prefix, valid, preferred uint32) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the kernel has answered by then
	list, err := c.Addresses(l.Index)
	if err != nil {
		return fmt.Errorf("set lifetime of %s of %q: %w", p, l.Name, err)
	}
	i := slices.IndexFunc(list, func(a rtnl.Address) bool { return a.Prefix() == p })
	if i < 0 {
		return fmt.Errorf("set lifetime of %s of %q: the address is gone", p, l.Name)
	}
	a := list[i].WithLifetimes(rtnl.Lifetimes{Preferred: preferred, Valid: valid})
	return host.Explain(c.Send([]rtnl.Request{rtnl.ChangeAddress(l.Name, a)}))
}

// GiveUpRouters marks the IPv6 gateways of a link as failed. Of the routers that the kernel
// knows by advertisements it then prefers another one at once (RFC 4861, 6.3.6), not after
// half a minute. A gateway's next answer clears the mark.
//
//	ip -6 neigh replace GATEWAY dev LINK nud failed
func (h *Host) GiveUpRouters(l host.Link) error {
	gateways, err := host.ReadGateways(l.Index)
	if err != nil {
		return err
	}
	known, err := dump.Whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(l.Index, unix.AF_INET6) })
	if err != nil {
		return fmt.Errorf("list neighbors of %q: %w", l.Name, err)
	}
	var errs []error
	for _, n := range known {
		a, _ := netip.AddrFromSlice(n.IP)
		if n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || !slices.Contains(gateways, a) {
			continue
		}
		n.State, n.HardwareAddr = unix.NUD_FAILED, nil
		if err := netlink.NeighSet(&n); err != nil {
			errs = append(errs, fmt.Errorf("set neighbor %s of %q: %w", a, l.Name, err))
		}
	}
	return errors.Join(errs...)
}
