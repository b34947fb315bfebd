package kernel

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/move"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// MoveToBridge moves the host from its NIC to the bridge (package move).
func (h *Host) MoveToBridge(ctx context.Context, s step.MoveToBridge) error {
	return move.ToBridge(ctx, h, s)
}

// MoveBack moves the host back to its NIC (package move).
func (h *Host) MoveBack(ctx context.Context, s step.MoveToBridge) error { return move.Back(ctx, h, s) }

// CarriesHost reports whether the bridge has an address of the host's that is not link-local.
//
//	ip addr show dev BRIDGE
func (h *Host) CarriesHost(ctx context.Context, bridge string) (bool, error) {
	l, ok, err := h.Link(ctx, bridge)
	if err != nil || !ok {
		return false, err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.Addresses(l.Index)
	return !host.Holdings{Addrs: addrs}.Empty(), err
}
