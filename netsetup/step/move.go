package step

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ErrChanged tells that the host is not as it was planned for: plan again.
var ErrChanged = errors.New("the host's network changed meanwhile")

var _ = register[MoveToBridge]()

// MoveToBridge makes the NIC that carries the host's addresses a port of the
// bridge, which takes them over: addresses, routes of all tables, neighbours and
// policy rules. Make before break: at every moment the host has its addresses,
// and packets pass both ways (F16 to F19).
//
//  1. the addresses, also, on the bridge; the NIC a port: it still sends, what it
//     receives the bridge hands to the host
//  2. when the bridge has a carrier: each route by the bridge, then not by the NIC
//  3. the addresses no longer on the NIC
//
// Each part is one system call, so that there are few places to be killed at.
type MoveToBridge struct {
	Link     string        `json:"link"`
	Bridge   string        `json:"bridge"`
	Alias    string        `json:"alias"`              // the bridge's mark
	GenMode  string        `json:"gen_mode,omitempty"` // the NIC's addr_gen_mode; "" without IPv6
	RPFilter string        `json:"rp_filter"`          // the NIC's; the bridge gets it when the routes have moved
	Held     host.Holdings `json:"held"`

	// Steady has the way back put back what dhcpcd takes away, see Host.steady.
	Steady bool `json:"steady,omitempty"`
}

// Do moves them. It moves what is there by now: where that differs from what was
// planned, it returns an error and has changed nothing. Done again, it moves what
// another program took back.
func (s MoveToBridge) Do(ctx context.Context, k Kernel) error {
	l, ok, err := k.Link(ctx, s.Link)
	if err == nil && !ok {
		err = host.Refuse("there is no such link")
	}
	b, ok, bridgeErr := k.Link(ctx, s.Bridge)
	if err == nil && bridgeErr == nil && (!ok || b.Alias != s.Alias) {
		err = host.Refuse("there is no bridge %q of ours", s.Bridge)
	}
	if err = errors.Join(err, bridgeErr); err == nil && l.Master != 0 && l.Master != b.Index {
		err = host.Refuse("it already is a port of another")
	}
	if err == nil {
		err = k.MoveToBridge(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("move %q to bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

// Undo moves to the NIC what the bridge has by then: a renewed lease or a route
// that was added meanwhile comes along. Where the bridge is gone, it restores what
// the NIC had.
func (s MoveToBridge) Undo(ctx context.Context, k Kernel) error {
	if _, ok, err := k.Link(ctx, s.Link); err != nil || !ok {
		return err // unplugged: what it carried went with it
	}
	if err := k.MoveBack(ctx, s); err != nil {
		return fmt.Errorf("move %q back from bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

// Holds reports whether the NIC is a port of the bridge, and the bridge has an
// address of the host's. Which, is the host's affair: a lease may end, but an
// address that was there for ever is one for as long as the network.
func (s MoveToBridge) Holds(ctx context.Context, k Kernel) (bool, error) {
	port, err := SetPort{Link: s.Link, Bridge: s.Bridge, Restore: true}.Holds(ctx, k)
	if err != nil || !port || !s.Held.Lasts() {
		return port, err
	}
	return k.CarriesHost(ctx, s.Bridge)
}

// Label finds the label an address had that is too long for the bridge's name.
func (s MoveToBridge) Label(a rtnl.Address) string {
	for _, was := range s.Held.Addrs {
		if was.Family() == unix.AF_INET && was.Prefix() == a.Prefix() {
			return was.Label()
		}
	}
	return ""
}
