package hostlease

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

func indexOf(name string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("read link %q: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// setLifetime makes an address of the link end in that time. An address without an end
// stays so: its client does not use the kernel's lifetimes.
//
//	ip addr change ADDRESS dev LINK valid_lft SECONDS preferred_lft SECONDS
func setLifetime(link string, address netip.Addr, lasts time.Duration) error {
	l, list, err := managers.Addresses(link)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(net.IP(address.AsSlice())) })
	if i < 0 {
		return fmt.Errorf("extend address %s of %q: it is gone", address, link)
	}
	if !managers.Finite(list[i]) {
		return nil
	}
	return replace(l, list[i], int(lasts.Seconds()), int(lasts.Seconds()))
}

func replace(l netlink.Link, a netlink.Addr, valid, preferred int) error {
	ones, _ := a.Mask.Size()
	ip, _ := netip.AddrFromSlice(a.IP)
	link := host.Link{Index: l.Attrs().Index, Name: l.Attrs().Name}
	return kernel.SetLifetime(link, netip.PrefixFrom(ip.Unmap(), ones), uint32(valid), uint32(preferred))
}

// Follow handles DHCP clients that still receive on the port: it moves an address that
// they renewed from the port to the bridge, with its lifetime. dhcpcd's address stays on
// the port, where it does no harm, and only its lifetime goes to the bridge: without an
// address on the port, dhcpcd would ask for another lease again and again.
func (r *Renewer) Follow(ctx context.Context) error {
	_, given, err := managers.Addresses(r.Port)
	if err != nil || len(given) == 0 {
		return err
	}
	if r.Client.Program != managers.Dhcpcd {
		return r.Move(ctx)
	}
	bridge, has, err := managers.Addresses(r.Bridge)
	if err != nil {
		return err
	}
	renewed, all := lifetimes(given, has)
	if !all {
		return r.Move(ctx)
	}
	for _, a := range renewed {
		if err := replace(bridge, a, a.ValidLft, a.PreferedLft); err != nil {
			return err
		}
	}
	return nil
}

// lifetimes returns the bridge's addresses that have got more time on the port, with
// that time; all is false where the bridge lacks one of the port's addresses.
func lifetimes(port, bridge []netlink.Addr) (renewed []netlink.Addr, all bool) {
	for _, given := range port {
		i := slices.IndexFunc(bridge, func(b netlink.Addr) bool { return given.IPNet.String() == b.IPNet.String() })
		if i < 0 {
			return nil, false
		}
		if b := bridge[i]; managers.Finite(b) && given.ValidLft > b.ValidLft {
			b.ValidLft, b.PreferedLft = given.ValidLft, given.PreferedLft
			renewed = append(renewed, b)
		}
	}
	return renewed, true
}
