package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Link reads one link, false if there is none of that name (host.ReadLink).
func (h *Host) Link(ctx context.Context, name string) (host.Link, bool, error) {
	return host.ReadLink(name)
}

// ListLinks reads all links at once (host.ReadLinks).
func (h *Host) ListLinks(ctx context.Context) ([]host.Link, error) { return host.ReadLinks() }

// Attributes of bridges (linux/if_link.h).
const (
	bridgeForwardDelay      = 1 // IFLA_BR_FORWARD_DELAY, in 1/100 s
	bridgeSTPState          = 5 // IFLA_BR_STP_STATE
	bridgeMulticastSnooping = 23
)

// AddBridge makes the bridge in one request, so that no program ever sees it with STP on,
// or without its MAC: udev would set another one.
//
//	ip link add NAME address MAC mtu MTU type bridge stp_state 0 forward_delay 0 mcast_snooping 0
//	ip link set NAME alias ALIAS
func (h *Host) AddBridge(ctx context.Context, b step.AddBridge) error {
	err := rtnl.Send(rtnl.AddLink(b.Name, "bridge",
		[]rtnl.Attr{{Type: unix.IFLA_ADDRESS, Value: b.MAC}, rtnl.Uint32(unix.IFLA_MTU, uint32(b.MTU))},
		[]rtnl.Attr{rtnl.Uint32(bridgeSTPState, 0), rtnl.Uint32(bridgeForwardDelay, 0), {Type: bridgeMulticastSnooping, Value: []byte{0}}}))
	if err != nil {
		return host.Explain(err)
	}
	return h.setAlias(b.Name, b.Alias)
}

// setAlias marks a link.
//
//	ip link set NAME alias ALIAS
func (h *Host) setAlias(name, alias string) error {
	return h.withLink("set alias of", name, func(l netlink.Link) error { return netlink.LinkSetAlias(l, alias) })
}

// SetMaster makes a link a port of a bridge, or of none for "".
//
//	ip link set LINK master BRIDGE
//	ip link set LINK nomaster
func (h *Host) SetMaster(ctx context.Context, link, bridge string) error {
	if bridge == "" {
		return h.withLink("release", link, netlink.LinkSetNoMaster)
	}
	b, ok, err := h.Link(ctx, bridge)
	if err != nil {
		return err
	}
	if !ok {
		return host.Refuse("set %q master: there is no bridge %q: run the network's VMs again", link, bridge)
	}
	err = h.withLink("set master of", link, func(l netlink.Link) error { return netlink.LinkSetMasterByIndex(l, b.Index) })
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("set %q master: bridge %q is full (1023 ports): %w", link, bridge, err)
	}
	return err
}

// IsolatePort makes the bridge pass no frame between the port and other isolated ones.
//
//	bridge link set dev LINK isolated on
func (h *Host) IsolatePort(ctx context.Context, link string) error {
	return h.withLink("isolate", link, func(l netlink.Link) error { return rtnl.Send(rtnl.IsolatePort(l.Attrs().Index)) })
}

// PortIsolated reports whether IsolatePort was done to the link, which may be gone.
//
//	bridge -d link show dev LINK
func (h *Host) PortIsolated(ctx context.Context, link string) (bool, error) {
	l, ok, err := h.Link(ctx, link)
	if err != nil || !ok {
		return false, err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return c.PortIsolated(l.Index)
}

// SetUp sets a link up or down.
//
//	ip link set LINK up|down
func (h *Host) SetUp(ctx context.Context, link string, up bool) error {
	if up {
		return h.withLink("set up", link, netlink.LinkSetUp)
	}
	return h.withLink("set down", link, netlink.LinkSetDown)
}

// Rename gives a link another name. Kernels before 6.2 refuse that of a link that is up
// (EBUSY): Rename then sets the link down and up again, unless a default route leads by it,
// which would be lost.
//
//	ip link set LINK name NAME
func (h *Host) Rename(ctx context.Context, link, name string) error {
	return h.withLink("rename", link, func(l netlink.Link) error {
		err := netlink.LinkSetName(l, name)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if gateways, readErr := host.ReadGateways(l.Attrs().Index); len(gateways) > 0 || readErr != nil {
			return errors.Join(err, readErr)
		}
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetName(l, name), netlink.LinkSetUp(l))
	})
}

// SetMTU sets a link's MTU, in bytes.
//
//	ip link set LINK mtu MTU
func (h *Host) SetMTU(ctx context.Context, link string, mtu int) error {
	return h.withLink("set mtu of", link, func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) })
}

// withLink does something with the link of that name. Its error begins with the verb.
func (h *Host) withLink(verb, name string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", verb, name, host.Explain(err))
	}
	return nil
}
