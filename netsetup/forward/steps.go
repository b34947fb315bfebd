package forward

import (
	"context"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

var _ = step.Register[AddForwards]()

// Steps let other machines' packets to ports of the host reach a guest with their own source
// address, before the relay has them. There are none where the relay has all: of forwards at the
// loopback's addresses, or over IPv6. Without the steps, or where another program takes them back,
// the relay has all, too.
func Steps(f nft.Forwarding, guest netip.Addr, forwards []Forward) step.List {
	var list []nft.Destination
	for _, each := range forwards {
		if Outside(each) {
			list = append(list, Destination(guest, each))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return step.List{AddForwards{Forwarding: f, Forwards: list}}
}

// Destination is what packets for a forward get as their destination.
func Destination(guest netip.Addr, f Forward) nft.Destination {
	d := nft.Destination{Address: f.Address, Proto: f.Proto, Port: f.Port, Guest: netip.AddrPortFrom(guest, f.Guest)}
	if d.Address == netip.IPv4Unspecified() {
		d.Address = netip.Addr{} // any
	}
	return d
}

// AddForwards gives packets to ports of the host a guest as their destination. The first one of a
// network brings the rules with it that look the forwards up, and the last takes them away.
type AddForwards struct {
	Forwarding nft.Forwarding    `json:"forwarding"`
	Forwards   []nft.Destination `json:"forwards"`
}

// Do adds the elements that are missing, in one transaction.
func (s AddForwards) Do(ctx context.Context, k step.Kernel) error {
	return k.SetForwards(ctx, s.Forwarding, s.Forwards, nil)
}

// Undo deletes those that are there.
func (s AddForwards) Undo(ctx context.Context, k step.Kernel) error {
	return k.SetForwards(ctx, s.Forwarding, nil, s.Forwards)
}

// Holds reports whether all elements are there.
func (s AddForwards) Holds(ctx context.Context, k step.Kernel) (bool, error) {
	now, err := k.ListForwards(ctx, s.Forwarding)
	missing := slices.ContainsFunc(s.Forwards, func(f nft.Destination) bool { return !slices.Contains(now, f) })
	return err == nil && !missing, err
}

func (s AddForwards) String() string {
	return "nft -f - <<'EOF'\n" + s.Forwarding.String() + "EOF\n" + nft.ElementCommands("add", s.Forwarding.Table, s.Forwards)
}

// UndoString is the commands that delete the elements, and those that take the rules away, which
// are for the last forward of the network. Of two forwards to one port of a guest, the set
// forwarded4 keeps the port until the last is deleted.
func (s AddForwards) UndoString() string {
	return nft.ElementCommands("delete", s.Forwarding.Table, s.Forwards) + "\n" + s.Forwarding.UndoString()
}

// IsConcurrent makes it Concurrent: the guests' links are down when the elements are deleted.
func (AddForwards) IsConcurrent() {}
