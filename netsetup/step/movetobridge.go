package step

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ErrChanged tells that the host is no longer as the plan assumes: plan again.
var ErrChanged = errors.New("the host's network changed meanwhile")

var _ = Register[MoveToBridge]()

// Mover moves the host between its NIC and a bridge.
type Mover interface {
	// MoveToBridge returns ErrChanged, and has changed nothing, where the NIC no longer
	// has what the step says.
	MoveToBridge(ctx context.Context, m MoveToBridge) error
	MoveBack(ctx context.Context, m MoveToBridge) error
}

// MoveToBridge makes the NIC that carries the host's addresses a port of the bridge, and
// moves to the bridge what the host has by the NIC: addresses, routes of all tables,
// neighbours and policy rules. At every moment the host has its addresses, and packets
// pass both ways (F16 to F19):
//
//  1. The bridge gets the addresses, which the NIC keeps. The NIC becomes a port: it still
//     sends, and what it receives the bridge hands to the host.
//  2. When the bridge has a carrier, each route is added by the bridge and then deleted by
//     the NIC.
//  3. The NIC loses the addresses.
//
// Each part is one system call, so that a kill finds few states.
type MoveToBridge struct {
	Link     string        `json:"link"`          // the NIC
	Was      string        `json:"was,omitempty"` // the NIC's name in Held, where another program renamed it since
	Bridge   string        `json:"bridge"`
	Alias    string        `json:"alias"`              // the bridge's mark
	GenMode  string        `json:"gen_mode,omitempty"` // the NIC's addr_gen_mode; "" without IPv6
	RPFilter string        `json:"rp_filter"`          // the NIC's; the bridge gets it when the routes have moved
	Held     host.Holdings `json:"held"`               // what the host has by the NIC

	// Dhcpcd tells that dhcpcd configures the NIC. It takes the addresses away when the
	// NIC is released, so the way back watches the NIC and puts them back.
	Dhcpcd bool `json:"steady,omitempty"`
}

// Do moves what is there by now. It returns ErrChanged, and has changed nothing, where
// that differs from Held. Done again, it moves what another program moved back.
func (s MoveToBridge) Do(ctx context.Context, k Kernel) error {
	err := s.ready(ctx, k)
	if err == nil {
		err = k.MoveToBridge(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("move %q to bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

// ready refuses to move where another program removed the NIC or the bridge, or gave the
// NIC to another link.
func (s MoveToBridge) ready(ctx context.Context, k Kernel) error {
	nic, there, err := k.Link(ctx, s.Link)
	if err != nil {
		return err
	}
	if !there {
		return host.Refuse("there is no such link: plug the NIC in, or name another uplink")
	}
	bridge, there, err := k.Link(ctx, s.Bridge)
	switch {
	case err != nil:
		return err
	case !there || bridge.Alias != s.Alias:
		return host.Refuse("there is no bridge %q of qnet's: another program deleted it: run the VM again", s.Bridge)
	case nic.Master != 0 && nic.Master != bridge.Index:
		return host.Refuse("it already is a port of another link: release it with: ip link set %s nomaster", s.Link)
	}
	return nil
}

// Undo moves to the NIC what the bridge has by then, so that a renewed lease or a route
// that another program added comes along. Where the bridge is gone, it restores Held.
func (s MoveToBridge) Undo(ctx context.Context, k Kernel) error {
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err // unplugged: the kernel removed what it carried
	}
	if err := k.MoveBack(ctx, s); err != nil {
		return fmt.Errorf("move %q back from bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

// Holds reports whether the NIC is a port of the bridge, and whether the bridge has one of
// the host's addresses. Where all of those in Held come from leases, it may have none: a
// lease can end.
func (s MoveToBridge) Holds(ctx context.Context, k Kernel) (bool, error) {
	port, err := SetPort{Link: s.Link, Bridge: s.Bridge, Restore: true}.Holds(ctx, k)
	if err != nil || !port || !s.Held.Lasts() {
		return port, err
	}
	return k.CarriesHost(ctx, s.Bridge)
}

// NICLabel returns the label that an IPv4 address of Held has on the NIC, "" for none. The
// bridge's address has lost the end of that label ("eth0:1") where the bridge's name is too
// long for both.
func (s MoveToBridge) NICLabel(a rtnl.Address) string {
	for _, was := range s.Held.Addrs {
		if was.Family() != unix.AF_INET || was.Prefix() != a.Prefix() {
			continue
		}
		if s.Was != "" { // the kernel renames labels with their link
			return was.LabelOn(s.Was, s.Link, nil)
		}
		return was.Label()
	}
	return ""
}
