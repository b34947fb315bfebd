package hostlease

import (
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

// forever is a lifetime that does not end (if_addr.h, INFINITY_LIFE_TIME).
const forever = 1<<32 - 1

func endless(seconds int) bool { return seconds == 0 || uint32(seconds) == forever }

// setLifetime gives an address of the link so much time from now on. One without an
// end keeps that: its client does not tell the kernel, and would not renew it.
//
//	ip addr change ADDRESS dev LINK valid_lft SECONDS preferred_lft SECONDS
func setLifetime(link string, address netip.Addr, lasts time.Duration) error {
	l, list, err := managers.Addresses(link)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(net.IP(address.AsSlice())) })
	if i < 0 {
		return fmt.Errorf("give %s of %q more time: it is gone", address, link)
	}
	if endless(list[i].ValidLft) {
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

// Follow looks at the port for what its client put there, who hears after all, and
// moves it to the bridge, with the time that it was given. dhcpcd keeps its address
// on the port, where it does no harm: without, it would ask for another lease at
// once, and again.
func (r *Renewer) Follow() error {
	_, given, err := managers.Addresses(r.Port)
	if err != nil || len(given) == 0 {
		return err
	}
	if r.Client.Program != managers.Dhcpcd {
		return r.Move()
	}
	bridge, list, err := managers.Addresses(r.Bridge)
	if err != nil {
		return err
	}
	for _, a := range given {
		i := slices.IndexFunc(list, func(b netlink.Addr) bool { return a.IPNet.String() == b.IPNet.String() })
		if i < 0 {
			return r.Move()
		}
		if b := list[i]; !endless(b.ValidLft) && a.ValidLft > b.ValidLft {
			if err := replace(bridge, b, a.ValidLft, a.PreferedLft); err != nil {
				return err
			}
		}
	}
	return nil
}
